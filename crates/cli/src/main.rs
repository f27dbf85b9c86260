//! cwm
fn main() {}
