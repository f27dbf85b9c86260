//! Pickles as data: a tree of what a pickle would make, with nothing made.
//!
//! The operations are those that PyTorch's metadata uses. What Python would import and call is
//! noted by name (`Global`, `Call`); nothing is looked up, imported or executed. Nodes refer to each
//! other by number, so that shared and deeply nested ones cost no more than the bytes that say them.

use std::collections::HashMap;

/// A node of the tree.
pub(super) type Id = usize;

#[derive(Debug)]
pub(super) enum Node {
    None,
    Bool,
    Whole(i64),
    Float,
    Text(String),
    /// Module and name, with a dot between them.
    Global(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// What calling `function` would give, with the state that is then set, if any.
    Call {
        function: Id,
        arguments: Id,
        state: Option<Id>,
    },
    /// Something kept outside, under this key.
    Outside(Id),
}

/// All nodes of a pickle.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    root: Id,
}

impl Tree {
    /// Reads a pickle.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes,
            at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            memo: HashMap::new(),
        };
        while let Some(operation) = machine.next_operation()? {
            let at = machine.at - 1;
            machine.run(operation)?.ok_or_else(|| {
                format!("operation {operation:#04x} at byte {at} lacks its operands")
            })?;
        }
        match machine.stack.pop() {
            Some(Item::Node(root)) => Ok(Self {
                nodes: machine.nodes,
                root,
            }),
            _ => Err("it ends without a value".to_owned()),
        }
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    pub(super) fn whole(&self, id: Id) -> Option<usize> {
        match self.node(id) {
            Node::Whole(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn global(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The state of an object whose class has this last name.
    pub(super) fn state(&self, id: Id, class: &str) -> Option<Id> {
        match self.node(id) {
            Node::Call {
                function, state, ..
            } => (self.global(*function)?.rsplit('.').next()? == class)
                .then_some(*state)
                .flatten(),
            _ => None,
        }
    }

    /// The arguments of a call of this function.
    pub(super) fn arguments(&self, id: Id, name: &str) -> Option<&[Id]> {
        match self.node(id) {
            Node::Call {
                function,
                arguments,
                ..
            } if self.global(*function)? == name => self.items(*arguments),
            _ => None,
        }
    }

    /// The entry of a dictionary under a text.
    pub(super) fn get(&self, dict: Id, key: &str) -> Option<Id> {
        let entries = self.entries(dict)?;
        let found = entries
            .iter()
            .find(|(name, _)| self.text(*name) == Some(key));
        found.map(|(_, value)| *value)
    }

    /// The sizes in a `torch.Size`.
    pub(super) fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let [sizes] = self.arguments(id, "torch.Size")? else {
            return None;
        };
        self.wholes(*sizes)
    }

    /// Whole numbers in a list or tuple.
    pub(super) fn wholes(&self, id: Id) -> Option<Vec<usize>> {
        self.items(id)?
            .iter()
            .map(|item| self.whole(*item))
            .collect()
    }
}

#[derive(Clone, Copy)]
enum Item {
    Mark,
    Node(Id),
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Item>,
    memo: HashMap<usize, Id>,
}

const STOP: u8 = b'.';

impl Machine<'_> {
    /// None at the end.
    fn next_operation(&mut self) -> Result<Option<u8>, String> {
        let [operation] = self.array()?;
        Ok((operation != STOP).then_some(operation))
    }

    fn take(&mut self, len: usize) -> Result<&[u8], String> {
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(format!(
                "it ends within a value of {len} bytes at byte {}",
                self.at
            ));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        Ok(*taken.first_chunk().expect("as long as was asked for"))
    }

    /// A length in `N` bytes.
    fn length<const N: usize>(&mut self) -> Result<usize, String> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.array::<N>()?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "a length is absurd".to_owned())
    }

    fn line(&mut self) -> Result<String, String> {
        let left = &self.bytes[self.at..];
        let len = left.iter().position(|byte| *byte == b'\n');
        let len = len.ok_or("it ends within a name")?;
        let line = String::from_utf8_lossy(&left[..len]).into_owned();
        self.at += len + 1;
        Ok(line)
    }

    fn text<const N: usize>(&mut self) -> Result<Node, String> {
        let len = self.length::<N>()?;
        let text = String::from_utf8(self.take(len)?.to_vec());
        text.map(Node::Text)
            .map_err(|_| "a text is not UTF-8".to_owned())
    }

    fn push(&mut self, node: Node) -> Option<()> {
        self.nodes.push(node);
        self.stack.push(Item::Node(self.nodes.len() - 1));
        Some(())
    }

    fn pop(&mut self) -> Option<Id> {
        match self.stack.pop()? {
            Item::Node(id) => Some(id),
            Item::Mark => None,
        }
    }

    fn top(&self) -> Option<Id> {
        match self.stack.last()? {
            Item::Node(id) => Some(*id),
            Item::Mark => None,
        }
    }

    /// What stands above the last mark, which goes too.
    fn marked(&mut self) -> Option<Vec<Id>> {
        let is_mark = |item: &Item| matches!(item, Item::Mark);
        let mark = self.stack.iter().rposition(is_mark)?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        let id = |item| match item {
            Item::Node(id) => Some(id),
            Item::Mark => None,
        };
        items.into_iter().map(id).collect()
    }

    fn tuple(&mut self, len: usize) -> Option<()> {
        let mut items = Vec::new();
        for _ in 0..len {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Node::Tuple(items))
    }

    fn extend(&mut self, more: Vec<Id>) -> Option<()> {
        let list = self.top()?;
        match &mut self.nodes[list] {
            Node::List(items) => items.extend(more),
            _ => return None,
        }
        Some(())
    }

    fn insert(&mut self, more: &[Id]) -> Option<()> {
        let (pairs, rest) = more.as_chunks::<2>();
        let dict = self.top().filter(|_| rest.is_empty())?;
        match &mut self.nodes[dict] {
            Node::Dict(entries) => entries.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            _ => return None,
        }
        Some(())
    }

    fn remember(&mut self, place: usize) -> Option<()> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Some(())
    }

    fn recall(&mut self, place: usize) -> Option<()> {
        let id = *self.memo.get(&place)?;
        self.stack.push(Item::Node(id));
        Some(())
    }

    fn call(&mut self) -> Option<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        self.push(Node::Call {
            function,
            arguments,
            state: None,
        })
    }

    fn build(&mut self) -> Option<()> {
        let new = self.pop()?;
        let object = self.top()?;
        match &mut self.nodes[object] {
            Node::Call { state, .. } => *state = Some(new),
            _ => return None,
        }
        Some(())
    }

    fn global(&mut self) -> Option<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (&self.nodes[module], &self.nodes[name]) {
            (Node::Text(module), Node::Text(name)) => {
                let global = Node::Global(format!("{module}.{name}"));
                self.push(global)
            }
            _ => None,
        }
    }

    /// Runs one operation; `None` where the stack has not what it takes.
    fn run(&mut self, operation: u8) -> Result<Option<()>, String> {
        Ok(match operation {
            0x80 => self.array::<1>().map(|_| Some(()))?,
            0x95 => self.array::<8>().map(|_| Some(()))?,
            b'(' => {
                self.stack.push(Item::Mark);
                Some(())
            }
            b'0' => self.pop().map(drop),
            b')' => self.push(Node::Tuple(Vec::new())),
            b't' => self
                .marked()
                .and_then(|items| self.push(Node::Tuple(items))),
            0x85..=0x87 => self.tuple(usize::from(operation - 0x84)),
            b']' => self.push(Node::List(Vec::new())),
            b'a' => self.pop().and_then(|item| self.extend(vec![item])),
            b'e' => self.marked().and_then(|items| self.extend(items)),
            b'}' => self.push(Node::Dict(Vec::new())),
            b's' => {
                let pair = self.pop().zip(self.pop());
                pair.and_then(|(value, key)| self.insert(&[key, value]))
            }
            b'u' => self.marked().and_then(|items| self.insert(&items)),
            b'N' => self.push(Node::None),
            0x88 | 0x89 => self.push(Node::Bool),
            b'K' | b'M' | b'J' | 0x8a => {
                let number = self.number(operation)?;
                self.push(Node::Whole(number))
            }
            b'G' => self.array::<8>().map(|_| self.push(Node::Float))?,
            0x8c => self.text::<1>().map(|text| self.push(text))?,
            b'X' => self.text::<4>().map(|text| self.push(text))?,
            0x8d => self.text::<8>().map(|text| self.push(text))?,
            b'h' => self.length::<1>().map(|place| self.recall(place))?,
            b'j' => self.length::<4>().map(|place| self.recall(place))?,
            b'q' => self.length::<1>().map(|place| self.remember(place))?,
            b'r' => self.length::<4>().map(|place| self.remember(place))?,
            0x94 => self.remember(self.memo.len()),
            b'c' => {
                let global = format!("{}.{}", self.line()?, self.line()?);
                self.push(Node::Global(global))
            }
            0x93 => self.global(),
            b'R' | 0x81 => self.call(),
            b'b' => self.build(),
            b'Q' => self.pop().and_then(|key| self.push(Node::Outside(key))),
            _ => {
                return Err(format!(
                    "operation {operation:#04x} is not one that is read"
                ));
            }
        })
    }

    fn number(&mut self, operation: u8) -> Result<i64, String> {
        Ok(match operation {
            b'K' => i64::from(u8::from_le_bytes(self.array()?)),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            _ => {
                let len = self.length::<1>()?;
                let bytes = self.take(len)?;
                if len > 8 {
                    return Err(format!("a number of {len} bytes is absurd"));
                }
                let fill = if bytes.last().is_some_and(|byte| *byte > 127) {
                    0xff
                } else {
                    0
                };
                let mut wide = [fill; 8];
                wide[..len].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        })
    }
}
