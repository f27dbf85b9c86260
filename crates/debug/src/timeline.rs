//! [`Timeline`]: every frame that was ever predicted, as a tree, and where
//! the user stands in it.
//!
//! Nothing is ever removed. Going back moves the cursor; going forward again
//! walks over frames already known before it asks for new ones; a fork starts
//! a new branch beside the frame it edits. So the state shown at a node is
//! the same whenever it is shown, and no stale prediction can survive an
//! edit: an edited frame is another node, with no successors yet.

use crate::frame::Frame;

/// Index of a node.
pub(crate) type NodeId = usize;

/// What is known to follow a node without an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Successor {
    /// Nobody asked yet.
    Unknown,
    /// This frame.
    Node(NodeId),
    /// The run ends here.
    End,
}

/// One frame in the tree.
#[derive(Clone, Debug)]
pub(crate) struct Node<T> {
    pub(crate) point: T,
    pub(crate) frame: Frame,
    pub(crate) parent: Option<NodeId>,
    pub(crate) successor: Successor,
    /// Number of frames before it on its path.
    pub(crate) index: usize,
    pub(crate) branch: usize,
}

/// A variable set by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Branch on which the edited frame was predicted.
    pub(crate) from: usize,
}

/// A line of play: the original run, or one that starts with an edit.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) edit: Option<Edit>,
    /// Its first own node.
    pub(crate) first: NodeId,
    /// Its furthest node.
    pub(crate) tip: NodeId,
    /// Where the cursor last stood on it.
    pub(crate) visited: NodeId,
}

/// The tree and a cursor. There is always at least one node.
#[derive(Clone, Debug)]
pub(crate) struct Timeline<T> {
    nodes: Vec<Node<T>>,
    branches: Vec<Branch>,
    cursor: NodeId,
    /// Cursors before each command that moved it.
    history: Vec<NodeId>,
}

impl<T> Timeline<T> {
    pub(crate) fn new(point: T, frame: Frame) -> Self {
        let root = Node {
            point,
            frame,
            parent: None,
            successor: Successor::Unknown,
            index: 0,
            branch: 0,
        };
        let branch = Branch {
            edit: None,
            first: 0,
            tip: 0,
            visited: 0,
        };
        Self {
            nodes: vec![root],
            branches: vec![branch],
            cursor: 0,
            history: Vec::new(),
        }
    }

    pub(crate) fn cursor(&self) -> NodeId {
        self.cursor
    }

    pub(crate) fn current(&self) -> &Node<T> {
        &self.nodes[self.cursor]
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node<T> {
        &self.nodes[id]
    }

    pub(crate) fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// A node and all before it, latest first.
    pub(crate) fn path_back(&self, from: NodeId) -> impl Iterator<Item = &Node<T>> {
        std::iter::successors(Some(&self.nodes[from]), |node| {
            node.parent.map(|parent| &self.nodes[parent])
        })
    }

    /// The latest frame with state of an activation, at `from` or before.
    pub(crate) fn state_of(&self, activation: u32, from: NodeId) -> Option<&Frame> {
        self.path_back(from)
            .map(|node| &node.frame)
            .find(|frame| frame.activation == activation && frame.has_state())
    }

    /// Moves the cursor; the command in progress decides what to remember.
    pub(crate) fn go(&mut self, to: NodeId) {
        self.cursor = to;
        let branch = self.nodes[to].branch;
        self.branches[branch].visited = to;
    }

    /// Ends a command that began at `origin`: if it moved, it can be undone.
    pub(crate) fn commit(&mut self, origin: NodeId) {
        if origin != self.cursor {
            self.history.push(origin);
        }
    }

    /// Undoes the last command that moved. `false` where there is none.
    pub(crate) fn undo(&mut self) -> bool {
        let Some(origin) = self.history.pop() else {
            return false;
        };
        self.go(origin);
        true
    }

    /// Adds what follows the cursor and moves there.
    pub(crate) fn extend(&mut self, point: T, frame: Frame) {
        let (id, at) = (self.nodes.len(), self.cursor);
        let Node { index, branch, .. } = self.nodes[at];
        self.nodes.push(Node {
            point,
            frame,
            parent: Some(at),
            successor: Successor::Unknown,
            index: index + 1,
            branch,
        });
        self.nodes[at].successor = Successor::Node(id);
        self.branches[branch].tip = id;
        self.go(id);
    }

    /// Notes that nothing follows the cursor.
    pub(crate) fn end(&mut self) {
        self.nodes[self.cursor].successor = Successor::End;
    }

    /// Adds an edited version of the current frame as a new branch and moves
    /// there.
    pub(crate) fn fork(&mut self, point: T, frame: Frame, name: String, value: String) {
        let (id, branch) = (self.nodes.len(), self.branches.len());
        let Node {
            parent,
            index,
            branch: from,
            ..
        } = self.nodes[self.cursor];
        self.nodes.push(Node {
            point,
            frame,
            parent,
            successor: Successor::Unknown,
            index,
            branch,
        });
        let edit = Some(Edit { name, value, from });
        self.branches.push(Branch {
            edit,
            first: id,
            tip: id,
            visited: id,
        });
        self.go(id);
    }

    /// Index of the first frame on the cursor's path that was edited by hand.
    pub(crate) fn first_edit(&self) -> Option<usize> {
        self.path_back(self.cursor)
            .map(|node| node.branch)
            .filter(|&branch| branch != 0)
            .min()
            .map(|branch| self.nodes[self.branches[branch].first].index)
    }
}
