//! What each process of a devnet says of itself, as a table.
//!
//! Validators and observers say it in their metrics, a witness in the checkpoint that it signed.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use piaogen_verify::checkpoint::Checkpoint;

/// What one process says of itself now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) name: String,
    pub(super) seen: Seen,
}

/// What there was to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Seen {
    /// It does not run, is cut off, or does not answer yet.
    #[default]
    Silent,
    /// A node.
    Node(NodeSight),
    /// A witness: how many headers it has signed for, and the root of their log.
    Witness { size: u64, root: String },
}

/// What a node says in its metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeSight {
    pub(super) height: u64,
    pub(super) view: u64,
    pub(super) executed_records: u64,
    pub(super) lag: u64,
    /// First 48 bits of the root over its shards.
    pub(super) root: u64,
    /// Votes that it counted of itself; an observer has none.
    pub(super) votes: u64,
    pub(super) connected: u64,
}

impl NodeSight {
    /// Takes what is needed from the text of `/metrics`; `key` is the node's own, in hexadecimal.
    fn read(key: &str, text: &str) -> NodeSight {
        let all = |series: &str, label: &str| -> u64 {
            let of = |line: &str| {
                let (name, value) = line.rsplit_once(' ')?;
                let (name, labels) = name.split_once('{').unwrap_or((name, ""));
                (name == series && labels.contains(label)).then(|| value.parse::<f64>().ok())?
            };
            // Counts and numbers of 48 bits are exact.
            text.lines().filter_map(of).sum::<f64>() as u64
        };
        NodeSight {
            height: all("piaogen_block_height", ""),
            view: all("piaogen_view", ""),
            executed_records: all("piaogen_executed_records_total", ""),
            lag: all("piaogen_lag_records", ""),
            root: all("piaogen_executed_root", ""),
            votes: all("piaogen_peer_votes_total", key),
            connected: all("piaogen_peer_connected", ""),
        }
    }
}

impl Sight {
    pub(super) const HEAD: &str =
        "process        height    view   records     lag  root          votes  peers";

    /// Of a node, from its metrics.
    pub(super) fn of_node(name: &str, key: &str, metrics: &str) -> Sight {
        Sight { name: name.into(), seen: Seen::Node(NodeSight::read(key, metrics)) }
    }

    /// Of a witness, from its checkpoint; silent before the first.
    pub(super) fn of_witness(name: &str, note: &str) -> Sight {
        let seen = Checkpoint::parse(note).map_or(Seen::Silent, |checkpoint| Seen::Witness {
            size: checkpoint.size,
            root: hex::encode(checkpoint.root),
        });
        Sight { name: name.into(), seen }
    }

    /// What a node said.
    pub(super) fn node(&self) -> Option<&NodeSight> {
        match &self.seen {
            Seen::Node(node) => Some(node),
            Seen::Silent | Seen::Witness { .. } => None,
        }
    }

    pub(super) fn line(&self) -> String {
        let name = &self.name;
        match &self.seen {
            Seen::Silent => format!("{name:<12} does not answer"),
            Seen::Node(node) => format!(
                "{name:<12} {:>8} {:>7} {:>9} {:>7}  {:012x} {:>6} {:>6}",
                node.height,
                node.view,
                node.executed_records,
                node.lag,
                node.root,
                node.votes,
                node.connected
            ),
            Seen::Witness { size, root } => {
                format!("{name:<12} {:>8} headers cosigned, root {root:.12}", size)
            }
        }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let name = &self.name;
        match &self.seen {
            Seen::Silent => serde_json::json!({ "process": name, "answers": false }),
            Seen::Node(node) => serde_json::json!({
                "process": name, "height": node.height, "view": node.view,
                "records": node.executed_records, "lag": node.lag,
                "root": format!("{:012x}", node.root), "votes": node.votes,
                "connected": node.connected,
            }),
            Seen::Witness { size, root } => {
                serde_json::json!({ "process": name, "cosigned": size, "log_root": root })
            }
        }
    }
}

/// The processes, drawn on a terminal.
pub(super) struct Table {
    screen: MultiProgress,
    rows: Vec<ProgressBar>,
}

impl Table {
    pub(super) fn new(processes: usize) -> Table {
        let screen = MultiProgress::new();
        let style =
            ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let row = |text: &str| {
            let bar = ProgressBar::new_spinner().with_style(style.clone());
            screen.add(bar).with_message(text.to_string())
        };
        let head = row(Sight::HEAD);
        let rows = std::iter::once(head).chain((0..processes).map(|_| row(""))).collect();
        Table { screen, rows }
    }

    pub(super) fn show(&self, sights: &[Sight]) {
        self.rows[0].tick();
        for (row, sight) in self.rows[1..].iter().zip(sights) {
            row.set_message(sight.line());
        }
    }

    /// Says something above the table; to standard error where there is no terminal.
    pub(super) fn say(&self, text: &str) {
        self.screen.suspend(|| eprintln!("{text}"));
    }

    pub(super) fn clear(&self) {
        // Fails where there is no terminal, and nothing to clear.
        let _ = self.screen.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_is_read_from_its_series() {
        let text = "# HELP piaogen_view x\npiaogen_view 7\npiaogen_lag_records{shard=\"0\"} 2\n\
                    piaogen_lag_records{shard=\"1\"} 3\npiaogen_executed_root 281474976710655\n\
                    piaogen_peer_votes_total{peer=\"02aa\"} 5\n\
                    piaogen_peer_votes_total{peer=\"02bb\"} 9\n\
                    piaogen_peer_connected{peer=\"02aa\"} 1\n";
        let sight = Sight::of_node("validator-1", "02bb", text);
        let node = sight.node().unwrap();
        assert_eq!((node.view, node.lag, node.votes, node.connected), (7, 5, 9, 1));
        assert!(sight.line().contains("ffffffffffff"), "{}", sight.line());
    }

    #[test]
    fn what_a_witness_says_is_read_from_its_checkpoint() {
        let note = Checkpoint::new("demo", 12, [7; 32]).to_note();
        let sight = Sight::of_witness("witness-1", &note);
        assert!(sight.line().contains("12 headers cosigned, root 070707070707"), "{note}");
        let silent = Sight::of_witness("witness-1", "no note");
        assert_eq!(silent.line().trim(), "witness-1    does not answer");
        assert!(silent.node().is_none());
    }
}
