//! Ranks that are processes, on one machine or many, joined by TCP.
//!
//! Rank 0 listens where all others know; each other rank listens anywhere, tells rank 0 where, and
//! gets the list of all. Then every rank connects to all below it, so that each pair shares one
//! connection. A connection begins with [`MAGIC`] and the numbers of the two sides; after that a
//! message is its length in eight bytes, least first, and its bytes.
//!
//! The connections are neither encrypted nor secret: for networks whose machines trust each other.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use super::{Collective, CollectiveError};

/// What a connection begins with; the last byte is the version of the protocol.
const MAGIC: [u8; 8] = *b"cwmrank\x01";
/// How long a newcomer may take to say who it is.
const GREETING: Duration = Duration::from_secs(10);
/// Pause between attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// How a rank finds the others.
#[derive(Clone, Debug)]
pub struct TcpSettings {
    /// Number of this rank, from 0.
    pub rank: usize,
    /// How many ranks there are.
    pub size: usize,
    /// Host and port where rank 0 listens, as the other ranks reach it.
    pub leader: String,
    /// How long ranks wait for each other at the start.
    pub join_timeout: Duration,
    /// How long a rank may be silent during work before it counts as lost.
    pub silence_timeout: Duration,
}

/// A rank among processes.
#[derive(Debug)]
pub struct TcpRank {
    rank: usize,
    /// To each rank; none to itself.
    peers: Vec<Option<TcpStream>>,
}

impl TcpRank {
    /// Finds the other ranks; returns when all are connected with each other.
    ///
    /// # Errors
    /// [`CollectiveError`] when some do not come in time or do not fit.
    pub fn join(settings: &TcpSettings) -> Result<Self, CollectiveError> {
        let TcpSettings { rank, size, .. } = *settings;
        if rank >= size {
            return Err(CollectiveError::Number { rank, size });
        }
        let deadline = Instant::now() + settings.join_timeout;
        let peers = match rank {
            0 => lead(settings, deadline)?,
            _ => follow(settings, deadline)?,
        };
        for stream in peers.iter().flatten() {
            let set = stream
                .set_nodelay(true)
                .and_then(|()| stream.set_read_timeout(Some(settings.silence_timeout)))
                .and_then(|()| stream.set_write_timeout(Some(settings.silence_timeout)));
            set.map_err(|source| CollectiveError::Local { rank, source })?;
        }
        Ok(Self { rank, peers })
    }
}

impl Collective for TcpRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.peers.len()
    }

    fn exchange(&mut self, outgoing: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        // Two ranks that both write until the other reads would wait for ever: writing has threads
        // of its own.
        let peers = &self.peers;
        thread::scope(|scope| {
            let mut own = Vec::new();
            let mut writers = Vec::new();
            for (rank, part) in outgoing.into_iter().enumerate() {
                match &peers[rank] {
                    None => own = part,
                    Some(stream) => writers.push((rank, scope.spawn(move || send(stream, &part)))),
                }
            }
            let received = peers.iter().enumerate().map(|(rank, stream)| match stream {
                None => Ok(std::mem::take(&mut own)),
                Some(stream) => receive(stream).map_err(|error| lost(rank, &error)),
            });
            let received: Result<Vec<_>, _> = received.collect();
            if received.is_err() {
                // Writers to ranks that are well would wait for readers that never come.
                for stream in peers.iter().flatten() {
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                }
            }
            for (rank, writer) in writers {
                let written = writer
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                if received.is_ok() {
                    written.map_err(|error| lost(rank, &error))?;
                }
            }
            received
        })
    }
}

fn lost(rank: usize, error: &io::Error) -> CollectiveError {
    CollectiveError::RankLost {
        rank,
        reason: told(error),
    }
}

/// Of a rank that is not there any more before work has begun.
fn hung_up(peer: usize, error: &io::Error) -> CollectiveError {
    CollectiveError::HungUp {
        peer,
        reason: told(error),
    }
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => "it closed its connection".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it has been silent".to_owned(),
        _ => error.to_string(),
    }
}

fn send(mut stream: &TcpStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(&(message.len() as u64).to_le_bytes())?;
    stream.write_all(message)
}

fn receive(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    // The buffer grows with what really comes, whatever the length says.
    let mut message = Vec::new();
    stream.take(length).read_to_end(&mut message)?;
    match message.len() as u64 == length {
        true => Ok(message),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Who is at the other end of a new connection, in its own words.
struct Greeting {
    rank: usize,
    size: usize,
    /// Port at which it listens for ranks above it.
    port: u16,
}

fn greet(mut stream: &TcpStream, greeting: &Greeting) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((greeting.rank as u64).to_le_bytes());
    bytes.extend((greeting.size as u64).to_le_bytes());
    bytes.extend(greeting.port.to_le_bytes());
    stream.write_all(&bytes)
}

/// `None` for whatever does not speak the protocol.
fn greeted(mut stream: &TcpStream) -> io::Result<Option<Greeting>> {
    stream.set_read_timeout(Some(GREETING))?;
    let mut bytes = [0; 26];
    if stream.read_exact(&mut bytes).is_err() || bytes[..8] != MAGIC {
        return Ok(None);
    }
    let number = |at: usize| {
        bytes[at..at + 8]
            .iter()
            .rev()
            .fold(0, |n, &b| n << 8 | u64::from(b))
    };
    Ok(Some(Greeting {
        rank: number(8) as usize,
        size: number(16) as usize,
        port: u16::from_le_bytes([bytes[24], bytes[25]]),
    }))
}

/// Rank 0: waits for all, then tells each where the others are.
fn lead(
    settings: &TcpSettings,
    deadline: Instant,
) -> Result<Vec<Option<TcpStream>>, CollectiveError> {
    let listener = listen(&settings.leader).map_err(|source| CollectiveError::Listen {
        address: settings.leader.clone(),
        source,
    })?;
    let came = accept(&listener, settings, deadline)?;
    let list: String = came.iter().map(|(_, place)| format!("{place}\n")).collect();
    for (rank, (stream, _)) in came.iter().enumerate() {
        send(stream, list.as_bytes()).map_err(|error| hung_up(rank + 1, &error))?;
    }
    let others = came.into_iter().map(|(stream, _)| Some(stream));
    Ok([None].into_iter().chain(others).collect())
}

/// Listens at an address; at its port everywhere, where the address is one that only others know this
/// machine by.
fn listen(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).or_else(|error| {
        let elsewhere = address.to_socket_addrs()?.next();
        let (Some(elsewhere), io::ErrorKind::AddrNotAvailable) = (elsewhere, error.kind()) else {
            return Err(error);
        };
        TcpListener::bind((any_address(elsewhere.ip()), elsewhere.port()))
    })
}

/// Any other rank: asks rank 0 for the list, connects to those below, is connected to by those
/// above, which wait in its listener's queue meanwhile.
fn follow(
    settings: &TcpSettings,
    deadline: Instant,
) -> Result<Vec<Option<TcpStream>>, CollectiveError> {
    let leader = connect(0, &settings.leader, deadline, settings)?;
    let here = leader
        .local_addr()
        .and_then(|address| TcpListener::bind((any_address(address.ip()), 0)))
        .and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let (port, listener) = here.map_err(|source| CollectiveError::Local {
        rank: settings.rank,
        source,
    })?;
    let greeting = Greeting {
        rank: settings.rank,
        size: settings.size,
        port,
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let list = greet(&leader, &greeting)
        .and_then(|()| leader.set_read_timeout(Some(left.max(PAUSE))))
        .and_then(|()| receive(&leader))
        .map_err(|error| hung_up(0, &error))?;
    let list = String::from_utf8_lossy(&list).into_owned();

    let mut peers = vec![Some(leader)];
    for (rank, place) in (1..settings.rank).zip(list.lines()) {
        let stream = connect(rank, place, deadline, settings)?;
        greet(&stream, &greeting).map_err(|error| hung_up(rank, &error))?;
        peers.push(Some(stream));
    }
    peers.push(None);
    let above = accept(&listener, settings, deadline)?;
    peers.extend(above.into_iter().map(|(stream, _)| Some(stream)));
    Ok(peers)
}

/// The address of all interfaces, of the family of `address`.
fn any_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::from([0, 0, 0, 0]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    }
}

/// Waits for all ranks above this one; gives their connections, and where each listens, by rank.
fn accept(
    listener: &TcpListener,
    settings: &TcpSettings,
    deadline: Instant,
) -> Result<Vec<(TcpStream, SocketAddr)>, CollectiveError> {
    let above = settings.rank + 1..settings.size;
    let own_error = |source: io::Error| CollectiveError::Local {
        rank: settings.rank,
        source,
    };
    listener.set_nonblocking(true).map_err(own_error)?;
    let mut came: Vec<Option<(TcpStream, SocketAddr)>> = above.clone().map(|_| None).collect();
    while came.iter().any(Option::is_none) {
        let (stream, address) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= deadline {
                    return Err(missing(settings, &came));
                }
                thread::sleep(PAUSE);
                continue;
            }
            Err(error) => return Err(own_error(error)),
        };
        stream.set_nonblocking(false).map_err(own_error)?;
        let Some(greeting) = greeted(&stream).map_err(own_error)? else {
            continue;
        };
        let misfit = |reason: String| CollectiveError::Misfit {
            address,
            rank: greeting.rank,
            size: greeting.size,
            reason,
        };
        if greeting.size != settings.size {
            let reason = format!("but rank {} expects {}", settings.rank, settings.size);
            return Err(misfit(reason));
        }
        if !above.contains(&greeting.rank) {
            return Err(misfit("which is not for it to be".to_owned()));
        }
        let place = &mut came[greeting.rank - above.start];
        if place.is_some() {
            return Err(misfit("which another process is already".to_owned()));
        }
        *place = Some((stream, SocketAddr::new(address.ip(), greeting.port)));
    }
    Ok(came.into_iter().flatten().collect())
}

fn missing(settings: &TcpSettings, came: &[Option<(TcpStream, SocketAddr)>]) -> CollectiveError {
    let missing: Vec<String> = (settings.rank + 1..)
        .zip(came)
        .filter(|(_, came)| came.is_none())
        .map(|(rank, _)| rank.to_string())
        .collect();
    CollectiveError::Missing {
        found: settings.size - missing.len(),
        expected: settings.size,
        missing: missing.join(", "),
        waited_s: settings.join_timeout.as_secs(),
    }
}

/// Connects to a rank that may not listen yet.
fn connect(
    peer: usize,
    address: &str,
    deadline: Instant,
    settings: &TcpSettings,
) -> Result<TcpStream, CollectiveError> {
    loop {
        let reason = match try_connect(address, deadline) {
            Ok(stream) => return Ok(stream),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(CollectiveError::NotFound {
                rank: settings.rank,
                peer,
                address: address.to_owned(),
                waited_s: settings.join_timeout.as_secs(),
                reason,
            });
        }
        thread::sleep(PAUSE);
    }
}

fn try_connect(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        match TcpStream::connect_timeout(&address, left.max(PAUSE)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `size` ranks in threads of this process, at a port that is free.
    fn ranks(size: usize) -> Vec<TcpRank> {
        let free = TcpListener::bind("127.0.0.1:0").expect("binds");
        let leader = free.local_addr().expect("has an address").to_string();
        drop(free);
        let joining: Vec<_> = (0..size)
            .map(|rank| {
                let settings = settings(rank, size, &leader);
                thread::spawn(move || TcpRank::join(&settings))
            })
            .collect();
        joining
            .into_iter()
            .map(|rank| rank.join().expect("no panic").expect("joins"))
            .collect()
    }

    fn settings(rank: usize, size: usize, leader: &str) -> TcpSettings {
        TcpSettings {
            rank,
            size,
            leader: leader.to_owned(),
            join_timeout: Duration::from_secs(20),
            silence_timeout: Duration::from_secs(20),
        }
    }

    #[test]
    fn every_rank_gets_what_every_rank_sent_to_it() {
        // Larger than any buffer of the system, so that one-sided writing would hang.
        let part = |from: usize, to: usize| vec![(16 * from + to) as u8; 3_000_000 + from];
        let working: Vec<_> = ranks(3)
            .into_iter()
            .map(|mut rank| {
                thread::spawn(move || {
                    let own = rank.rank();
                    for _ in 0..2 {
                        let outgoing = (0..3).map(|to| part(own, to)).collect();
                        let received = rank.exchange(outgoing).expect("exchanges");
                        let expected: Vec<_> = (0..3).map(|from| part(from, own)).collect();
                        assert!(received == expected, "rank {own}");
                    }
                })
            })
            .collect();
        for rank in working {
            rank.join().expect("no panic");
        }
    }

    #[test]
    fn a_rank_that_is_gone_is_named() {
        let mut ranks = ranks(3);
        drop(ranks.remove(1));
        let error = ranks[0].exchange(vec![Vec::new(); 3]).expect_err("fails");
        assert!(
            matches!(error, CollectiveError::RankLost { rank: 1, .. }),
            "{error}"
        );
        // Whoever fails hangs up, so that the others do not wait for it.
        let error = ranks[1].exchange(vec![Vec::new(); 3]).expect_err("fails");
        assert!(error.to_string().contains("is gone"), "{error}");
    }

    #[test]
    fn strangers_are_ignored_and_misfits_refused() {
        let free = TcpListener::bind("127.0.0.1:0").expect("binds");
        let leader = free.local_addr().expect("has an address").to_string();
        drop(free);
        let settings = settings(0, 2, &leader);
        let leading = thread::spawn(move || TcpRank::join(&settings));
        let deadline = Instant::now() + Duration::from_secs(20);
        let stranger = loop {
            if let Ok(stream) = try_connect(&leader, deadline) {
                break stream;
            }
        };
        (&stranger)
            .write_all(b"GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n")
            .expect("writes");
        let other = try_connect(&leader, deadline).expect("connects");
        let greeting = Greeting {
            rank: 1,
            size: 5,
            port: 1,
        };
        greet(&other, &greeting).expect("greets");
        let error = leading.join().expect("no panic").expect_err("refuses");
        assert!(error.to_string().contains("rank 1 of 5"), "{error}");
    }

    #[test]
    fn who_is_refused_is_sent_to_the_message_of_the_one_that_refuses() {
        let free = TcpListener::bind("127.0.0.1:0").expect("binds");
        let leader = free.local_addr().expect("has an address").to_string();
        drop(free);
        let [two, three] = [settings(0, 2, &leader), settings(1, 3, &leader)];
        let leading = thread::spawn(move || TcpRank::join(&two));
        let error = TcpRank::join(&three).expect_err("another number of ranks");
        assert!(error.to_string().contains("rank 0 hung up"), "{error}");
        leading.join().expect("no panic").expect_err("refuses");
    }

    #[test]
    fn who_does_not_come_is_named() {
        let mut settings = settings(0, 3, "127.0.0.1:0");
        settings.join_timeout = Duration::ZERO;
        let error = TcpRank::join(&settings).expect_err("nobody comes");
        assert!(error.to_string().contains("missing: 1, 2"), "{error}");
        settings.rank = 3;
        let error = TcpRank::join(&settings).expect_err("no such rank");
        assert!(error.to_string().contains("rank 3 of 3"), "{error}");
    }
}
