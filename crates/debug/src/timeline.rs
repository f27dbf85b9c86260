//! [`Timeline`]: every frame that was ever predicted, as a tree, and where
//! the user stands in it.
//!
//! Nothing is ever removed. Going back moves the cursor; going forward again
//! walks over frames already known before it asks for new ones; a fork starts
//! a new branch beside the frame it edits, and a leap one behind the frame it begins at. So the state shown at a node is
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

/// How a branch began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// It is the run as first predicted.
    Original,
    /// A variable was set.
    Edit(Edit),
    /// Frames were left out behind one of this branch.
    Leap { from: usize },
}

/// A line of play: the original run, or one that starts with an edit or a leap.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) beginning: Beginning,
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
            beginning: Beginning::Original,
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
        let Node {
            parent,
            index,
            branch: from,
            ..
        } = self.nodes[self.cursor];
        let edit = Beginning::Edit(Edit { name, value, from });
        self.branch_off(edit, point, frame, parent, index);
    }

    /// Adds a frame that follows the current one with others left out, as a new branch, and moves there.
    pub(crate) fn leap(&mut self, point: T, frame: Frame) {
        let at = self.cursor;
        let Node {
            index,
            branch: from,
            ..
        } = self.nodes[at];
        self.branch_off(Beginning::Leap { from }, point, frame, Some(at), index + 1);
    }

    /// Where the leap from the cursor led, if there was one.
    pub(crate) fn leapt(&self) -> Option<NodeId> {
        let is_from_here = |branch: &&Branch| {
            matches!(branch.beginning, Beginning::Leap { .. })
                && self.nodes[branch.first].parent == Some(self.cursor)
        };
        let found = self.branches.iter().find(is_from_here);
        found.map(|branch| branch.first)
    }

    fn branch_off(
        &mut self,
        beginning: Beginning,
        point: T,
        frame: Frame,
        parent: Option<NodeId>,
        index: usize,
    ) {
        let (id, branch) = (self.nodes.len(), self.branches.len());
        self.nodes.push(Node {
            point,
            frame,
            parent,
            successor: Successor::Unknown,
            index,
            branch,
        });
        self.branches.push(Branch {
            beginning,
            first: id,
            tip: id,
            visited: id,
        });
        self.go(id);
    }

    /// Index of the first frame on the cursor's path that was edited by hand or leapt to.
    pub(crate) fn first_change(&self) -> Option<usize> {
        self.path_back(self.cursor)
            .map(|node| node.branch)
            .filter(|&branch| branch != 0)
            .min()
            .map(|branch| self.nodes[self.branches[branch].first].index)
    }
}
