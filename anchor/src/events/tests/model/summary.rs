//! What is compared: the parts of a status in words, one line each, from the model and from the
//! status document.

use super::Invoice;
use piaogen_verify::status::{Day, Status};
use piaogen_verify::value;

impl Invoice {
    /// The parts, one line each.
    pub(crate) fn summary(&self) -> Vec<String> {
        let word = &self.word;
        let mut out = vec![
            format!("version {}", self.version),
            format!("lifecycle {} risk {}", self.lifecycle(), self.risk),
            format!("red {} tax {}", self.credited, self.credited_tax),
            format!("remainder {} capacity {}", self.remainder(), self.capacity()),
            format!("paid {} booked {}", self.paid(), self.booked()),
            format!("over_financed {}", self.over_financed()),
            format!(
                "deduction {} tax {} transferred {} period {:?}",
                self.deduction, self.deducted, self.transferred, self.period
            ),
            format!(
                "word {} amount {:?} account {:?} due {:?} no_set_off {} disputed {:?}",
                word.state, word.amount, word.account, word.due, word.no_set_off, word.disputed
            ),
            slip(self.slip.as_ref().filter(|slip| slip.state != "none").map(|slip| {
                (slip.state, slip.by.as_str(), slip.amount, slip.tax, slip.deadline, slip.reason)
            })),
        ];
        let red = self.red_invoices.iter();
        out.extend(sorted(
            "red invoice",
            red.map(|(n, amount, tax)| format!("{n} {amount} {tax}")),
        ));
        let lines = self.red_lines.iter().map(|(n, of, red)| format!("{n}: {red} of {of}"));
        out.extend(sorted("red line", lines));
        let rates = self.red_rates.iter().map(|(n, of, tax)| format!("{n} %: {of} {tax}"));
        out.extend(sorted("red rate", rates));
        let bookings = self.bookings.iter().map(|b| {
            format!("{} {} {} at {} archive {:?}", b.unit, b.amount, b.mark, b.at, b.archive)
        });
        out.extend(sorted("booking", bookings));
        let claims = self.claims.iter();
        out.extend(sorted("claim", claims.map(|c| format!("{} {} {}", c.unit, c.at, c.expires))));
        out.extend(self.money());
        let orders = self.freezes.iter().map(|(by, order)| format!("{by} {order}"));
        out.extend(sorted("freeze", orders));
        out.extend(sorted("file", self.files.iter().map(u8::to_string)));
        out.extend(sorted("correction", self.corrections.iter().map(u64::to_string)));
        let facts = self
            .facts
            .iter()
            .map(|f| format!("{} {} {:?} {:?} {}", f.fact, f.reference, f.amount, f.tax, f.breach));
        out.extend(sorted("fact", facts));
        out
    }

    fn money(&self) -> Vec<String> {
        let consents = self
            .consents
            .iter()
            .map(|c| format!("{} {:?} {} {}", c.bank, c.amount, c.expires, c.scope));
        let mut out = sorted("consent", consents);
        out.extend(sorted(
            "financing",
            self.financings.iter().map(|f| {
                let told = (f.noticed.is_some(), f.acknowledged);
                let external = sorted("", f.external.iter().map(|(s, n)| format!("{s} {n}")));
                let ends = f.expires.filter(|_| f.state == "hold");
                format!(
                    "{} {} {} {} {:?} {:?} {ends:?} {} {told:?} {:?} {:?} {:?} {} {external:?}",
                    f.id,
                    f.state,
                    f.holder,
                    f.assigned,
                    f.form,
                    f.advanced,
                    f.divisible,
                    f.account,
                    f.offered_to,
                    f.red_consent,
                    f.repaid
                )
            }),
        ));
        let payments = self.payments.iter().map(|p| {
            format!("{} {} {} {} {}", p.by, p.amount, p.reference, p.acknowledged, p.wrong_payee)
        });
        out.extend(sorted("payment", payments));
        out
    }
}

type SlipParts<'a> = (&'a str, &'a str, i128, i128, Option<i64>, &'a str);

fn slip(slip: Option<SlipParts<'_>>) -> String {
    match slip {
        None => "slip none".into(),
        Some((state, by, amount, tax, deadline, reason)) => {
            format!("slip {state} by {by} {amount} {tax} until {deadline:?} for {reason}")
        }
    }
}

fn sorted(what: &str, entries: impl Iterator<Item = String>) -> Vec<String> {
    let mut entries: Vec<String> = entries.map(|entry| format!("{what} {entry}")).collect();
    entries.sort_unstable();
    entries
}

fn seed(digest: Option<[u8; 32]>) -> Option<u8> {
    digest.map(|digest| digest[0])
}

fn days(day: Option<Day>) -> Option<i64> {
    day.map(|day| value::days_since_1970(day.0 / 10_000, day.0 / 100 % 100, day.0 % 100))
}

/// The parts of a status document, as [`Invoice::summary`] says them.
pub(crate) fn summary_of(status: &Status) -> Vec<String> {
    let face = status.face();
    let deduction = status.deduction.as_ref();
    let word = status.confirmation.as_ref();
    let mut out = vec![
        format!("version {}", face.version),
        format!("lifecycle {} risk {}", face.lifecycle.name(), face.risk.name()),
        format!("red {} tax {}", status.red.amount, status.red.tax),
        format!("remainder {} capacity {}", status.remainder(), status.capacity()),
        format!("paid {} booked {}", status.paid(), status.booked()),
        format!("over_financed {}", face.over_financed),
        format!(
            "deduction {} tax {} transferred {} period {:?}",
            status.deduction_state().name(),
            deduction.map_or(0, |d| d.tax),
            deduction.map_or(0, |d| d.transferred),
            deduction.and_then(|d| d.period)
        ),
        format!(
            "word {} amount {:?} account {:?} due {:?} no_set_off {} disputed {:?}",
            status.buyer_state().name(),
            word.and_then(|w| w.amount),
            seed(word.and_then(|w| w.account)),
            days(word.and_then(|w| w.due)),
            word.is_some_and(|w| w.no_set_off),
            word.and_then(|w| w.disputed)
        ),
        slip(status.slip.as_ref().filter(|slip| slip.state.name() != "none").map(|slip| {
            let (by, reason) = (slip.by.as_str(), slip.reason.as_str());
            (slip.state.name(), by, slip.amount, slip.tax, slip.deadline, reason)
        })),
    ];
    out.extend(credited(status));
    let bookings = status.bookings.iter().map(|b| {
        let archive = seed(b.archive);
        format!("{} {} {} at {} archive {archive:?}", b.unit, b.amount, b.mark.name(), b.at)
    });
    out.extend(sorted("booking", bookings));
    let claims = status.claims.iter();
    out.extend(sorted("claim", claims.map(|c| format!("{} {} {}", c.unit, c.at, c.expires))));
    out.extend(money(status));
    let orders = status.freezes.iter().map(|freeze| format!("{} {}", freeze.by, freeze.order));
    out.extend(sorted("freeze", orders));
    out.extend(sorted("file", status.files.iter().map(|file| file.digest[0].to_string())));
    out.extend(sorted("correction", status.corrections.iter().map(|c| c.field.to_string())));
    let facts = status.authority_facts.iter().map(|f| {
        format!("{} {} {:?} {:?} {}", f.fact.name(), f.reference, f.amount, f.tax, f.breach)
    });
    out.extend(sorted("fact", facts));
    out
}

fn credited(status: &Status) -> Vec<String> {
    let red = status.red_invoices.iter();
    let mut out =
        sorted("red invoice", red.map(|red| format!("{} {} {}", red.number, red.amount, red.tax)));
    let lines = status.red_lines.iter();
    out.extend(sorted(
        "red line",
        lines.map(|line| format!("{}: {} of {}", line.line, line.credited, line.of)),
    ));
    let rates = status.red_rates.iter().map(|rate| {
        let (mantissa, scale) = rate.rate.unwrap();
        let percent = mantissa / 10i128.pow(u32::from(scale));
        format!("{percent} %: {} {}", rate.taxable.unwrap_or(0), rate.tax.unwrap_or(0))
    });
    out.extend(sorted("red rate", rates));
    out
}

fn money(status: &Status) -> Vec<String> {
    let consents = status
        .consents
        .iter()
        .map(|c| format!("{} {:?} {} {}", c.bank, c.amount, c.expires, c.scope));
    let mut out = sorted("consent", consents);
    out.extend(sorted(
        "financing",
        status.financings.iter().map(|f| {
            let told = (f.noticed.is_some(), f.acknowledged.is_some());
            let external = f.external.iter().map(|e| format!("{} {}", e.system, e.number));
            let external = sorted("", external);
            let ends = f.expires.filter(|_| f.state.name() == "hold");
            format!(
                "{} {} {} {} {:?} {:?} {ends:?} {} {told:?} {:?} {:?} {:?} {} {external:?}",
                f.id,
                f.state.name(),
                f.holder,
                f.assigned,
                f.form.map(|form| form.name()),
                f.advanced,
                f.divisible,
                seed(f.account),
                f.offered_to,
                f.red_consent,
                f.repaid.unwrap_or(0)
            )
        }),
    ));
    let payments = status.payments.iter().map(|p| {
        let acknowledged = p.acknowledged.is_some();
        format!("{} {} {} {acknowledged} {}", p.by, p.amount, p.reference, p.wrong_payee)
    });
    out.extend(sorted("payment", payments));
    out
}
