//! What a party must be told: facts that execution found, on their way out (PROTOCOL section 9).
//!
//! Alerts are no part of the state: they follow from the records, and whoever executes the same
//! stream in the same blocks finds the same ones. The node signs and sends them.
//!
//! Invariants
//! - The record's place and the kind and recipient of an alert identify it: telling it twice tells
//!   nothing new. Where block time triggers it, the record is the one that began the wait.

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum AlertKind {
    /// To authorities: a used number came again with other content.
    DupDifferent = 1,
    /// To a lien holder: a red invoice is asked for.
    RedOpened = 2,
    /// To a lien holder: both sides agreed on a red invoice.
    RedConfirmed = 3,
    /// To a lien holder: a red invoice took effect.
    RedApplied = 4,
    /// To a lien holder: the authority's fact hits the lien.
    LienHit = 5,
    /// To a lien holder: more is financed than there is.
    OverFinanced = 6,
    /// To a unit: more is booked than remains.
    OverBooked = 7,
    /// To the seller and lien holders: the buyer disputes.
    Disputed = 8,
    /// To the seller and lien holders: paid to another than the bound account.
    WrongPayee = 9,
    /// To the seller and the buyer: a financing is in default.
    InDefault = 10,
    /// To the seller and the buyer: the invoice was financed.
    Financed = 11,
    /// To a lien holder: an order freezes the invoice.
    Frozen = 12,
    /// To a lien holder: the authority marked the invoice.
    RiskMarked = 13,
    /// To a bank: a financing is offered to it.
    Offered = 14,
    /// To the buyer: a bank gave notice that the debt is assigned to it.
    Noticed = 15,
    /// To seller, buyer and lien holders: a slip waits, and will not much longer.
    SlipLapsing = 16,
    /// The same, where its deadline was past before anybody could be warned.
    SlipLapsed = 17,
}

impl AlertKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [AlertKind; 17] = [
        AlertKind::DupDifferent,
        AlertKind::RedOpened,
        AlertKind::RedConfirmed,
        AlertKind::RedApplied,
        AlertKind::LienHit,
        AlertKind::OverFinanced,
        AlertKind::OverBooked,
        AlertKind::Disputed,
        AlertKind::WrongPayee,
        AlertKind::InDefault,
        AlertKind::Financed,
        AlertKind::Frozen,
        AlertKind::RiskMarked,
        AlertKind::Offered,
        AlertKind::Noticed,
        AlertKind::SlipLapsing,
        AlertKind::SlipLapsed,
    ];

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            AlertKind::DupDifferent => "dup_different",
            AlertKind::RedOpened => "red_opened",
            AlertKind::RedConfirmed => "red_confirmed",
            AlertKind::RedApplied => "red_applied",
            AlertKind::LienHit => "lien_hit",
            AlertKind::OverFinanced => "over_financed",
            AlertKind::OverBooked => "over_booked",
            AlertKind::Disputed => "disputed",
            AlertKind::WrongPayee => "wrong_payee",
            AlertKind::InDefault => "in_default",
            AlertKind::Financed => "financed",
            AlertKind::Frozen => "frozen",
            AlertKind::RiskMarked => "risk_marked",
            AlertKind::Offered => "offered",
            AlertKind::Noticed => "noticed",
            AlertKind::SlipLapsing => "slip_lapsing",
            AlertKind::SlipLapsed => "slip_lapsed",
        }
    }
}

/// Whom an alert is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Recipient {
    /// All authorities.
    Authorities,
    /// This participant.
    Party(String),
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What happened.
    pub kind: AlertKind,
    /// Whom to tell.
    pub to: Recipient,
    /// The invoice.
    pub subject: Vec<u8>,
    /// Log index of the record that did it.
    pub log_index: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_names_every_kind_once() {
        let text = include_str!("../../verify/FORMAT.md");
        let begin = text.find("## 15. Alert").unwrap();
        let section = &text[begin..text.find("## 16. Check").unwrap()];
        for (number, kind) in AlertKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number + 1);
            assert_eq!(section.matches(&format!("`{}`", kind.name())).count(), 1, "{kind:?}");
        }
    }
}
