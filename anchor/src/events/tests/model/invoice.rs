//! The model's rules of authority, red letters, input tax and booking (PROTOCOL 7.2).

use super::{Answer, Booking, Claim, Financing, Invoice, LIST, Said, Slip, Step, ask, role_of};
use piaogen_verify::fields::tag;
use piaogen_verify::record::RecordKind as R;

/// Fields that a correction may name in schedules, and whether it may.
pub(crate) const CORRECTIONS: &[(u16, bool)] = &[
    (tag::TOTAL_GROSS, false),
    (tag::TOTAL_VAT, false),
    (tag::SELLER_PARTY, false),
    (tag::BUYER_PARTY, false),
    (tag::DUE_DATE, false),
    (tag::ISSUE_DATE, false),
    (10, true),
    (11, true),
    (57, true),
];

impl Step<'_> {
    pub(super) fn run_invoice(&mut self) -> Answer {
        match self.act.kind {
            R::AddFile => self.add_file(),
            R::Correct => self.correct(),
            R::Void => self.void(),
            R::AuthorityFact => self.authority_fact(),
            R::RiskMark => self.risk_mark(),
            R::Freeze => self.freeze(),
            R::Unfreeze => self.unfreeze(),
            R::RedRequest => self.red_request(),
            R::SlipOpen => self.slip_open(),
            R::SlipConfirm => self.slip_confirm(),
            R::SlipRefuse => self.slip_refuse(),
            R::SlipWithdraw => self.slip_withdraw(),
            R::SlipExpire => self.slip_expire(),
            R::RedApply => self.red_apply(),
            R::Select => self.select(),
            R::Unselect => self.unselect(),
            R::ConfirmDeduction => self.confirm_deduction(),
            R::TransferOut => self.transfer_out(),
            R::NonDeductible => self.non_deductible(),
            R::ExportRebate => self.export_rebate(),
            R::ExportRollback => self.export_rollback(),
            R::ClaimOpen => self.claim_open(),
            R::ClaimClose => self.claim_close(),
            R::Book => self.book(),
            R::Unbook => self.unbook(),
            R::Archive => self.archive(),
            kind => unreachable!("{kind:?}"),
        }
    }

    // Authority and evidence.

    fn add_file(&mut self) -> Answer {
        ask(self.is_authority() || self.is_seller(), "NOT_SELLER")?;
        let digest = self.act.digest.unwrap();
        ask(!self.invoice.files.contains(&digest), "ALREADY_DONE")?;
        ask(self.invoice.files.len() < LIST, "TOO_MANY")?;
        self.invoice.files.push(digest);
        Ok(())
    }

    fn correct(&mut self) -> Answer {
        let field = self.act.field.unwrap();
        let may = CORRECTIONS.iter().any(|(tag, may)| u64::from(*tag) == field && *may);
        ask(may, "IMMUTABLE_FIELD")?;
        ask(self.invoice.corrections.len() < LIST, "TOO_MANY")?;
        self.invoice.corrections.push(field);
        Ok(())
    }

    fn void(&mut self) -> Answer {
        ask(self.invoice.rules.voidable, "NOT_VOIDABLE")?;
        ask(!self.invoice.slip_is_live(self.setting.now), "SLIP_LIVE")?;
        let liens = self.invoice.financings.iter().any(Financing::live);
        ask(!liens || self.setting.policy.lien_blocks == 0, "ENCUMBERED")?;
        let invoice = &mut *self.invoice;
        let untouched = invoice.deduction == "unselected"
            && invoice.bookings.is_empty()
            && invoice.claims.is_empty()
            && invoice.credited == 0;
        ask(untouched, "IN_USE")?;
        invoice.void = true;
        Ok(())
    }

    fn authority_fact(&mut self) -> Answer {
        let fact = self.act.fact.unwrap();
        ask(["red", "void"].contains(&fact), "MALFORMED")?;
        let reference = self.act.reference.clone().unwrap();
        let (amount, tax) = (self.act.amount, self.act.tax);
        let invoice = &mut *self.invoice;
        let same = |known: &&Said| known.fact == fact && known.reference == reference;
        let same = invoice.facts.iter().find(same);
        if let Some(known) = same {
            ask(known.amount == amount && known.tax == tax, "CONTRADICTS")?;
            return Err("ALREADY_DONE");
        }
        if fact == "red" {
            ask(invoice.facts.iter().all(|known| known.fact != "void"), "CONTRADICTS")?;
            ask(!invoice.void, "ALREADY_VOID")?;
            ask(amount.is_some(), "MALFORMED")?;
        } else {
            let said = amount.is_some() || tax.is_some() || self.act.red_number.is_some();
            ask(!said, "MALFORMED")?;
        }
        if let Some(number) = &self.act.red_number {
            ask(invoice.red_invoices.iter().all(|red| red.0 != *number), "ALREADY_DONE")?;
            ask(invoice.red_invoices.len() < LIST, "TOO_MANY")?;
        }
        ask(invoice.facts.len() < LIST, "TOO_MANY")?;
        let breach = invoice.financings.iter().any(Financing::live);
        invoice.facts.push(Said { fact, reference, amount, tax, breach });
        if fact == "void" {
            invoice.void = true;
        } else {
            let amount = amount.unwrap().min((invoice.gross - invoice.credited).max(0));
            let tax = tax.unwrap_or(0).min(invoice.tax_remainder().max(0));
            invoice.credited += amount;
            invoice.credited_tax += tax;
            if let Some(number) = self.act.red_number.clone() {
                invoice.red_invoices.push((number, amount, tax));
            }
        }
        Ok(())
    }

    fn risk_mark(&mut self) -> Answer {
        let mark = self.act.mark.unwrap();
        ask(["normal", "doubtful", "abnormal"].contains(&mark), "MALFORMED")?;
        self.invoice.risk = mark;
        Ok(())
    }

    fn freeze(&mut self) -> Answer {
        let order = (self.actor.to_owned(), self.act.reference.clone().unwrap());
        ask(!self.invoice.freezes.contains(&order), "ALREADY_DONE")?;
        ask(self.invoice.freezes.len() < LIST, "TOO_MANY")?;
        self.invoice.freezes.push(order);
        Ok(())
    }

    fn unfreeze(&mut self) -> Answer {
        let order = self.act.reference.clone().unwrap();
        ask(self.invoice.freezes.iter().any(|known| known.1 == order), "ORDER_UNKNOWN")?;
        let own = (self.actor.to_owned(), order);
        ask(self.invoice.freezes.contains(&own), "NOT_YOUR_ORDER")?;
        self.invoice.freezes.retain(|known| *known != own);
        Ok(())
    }

    // Red letters.

    /// Where policy lets liens block, every one must have consented to this amount.
    fn liens_allow(&self, amount: i128) -> Answer {
        let objects = |f: &Financing| f.live() && f.red_consent.unwrap_or(0) < amount;
        let blocked =
            self.setting.policy.lien_blocks == 1 && self.invoice.financings.iter().any(objects);
        ask(!blocked, "ENCUMBERED")
    }

    fn within_remainder(&self, amount: i128, tax: i128) -> Answer {
        let invoice = &self.invoice;
        ask(amount <= invoice.remainder() && tax <= invoice.tax_remainder(), "AMOUNT_EXCEEDED")
    }

    /// What `red_request` and `slip_open` have in common.
    fn slip_may_open(&self) -> Answer {
        ask(!self.invoice.slip_is_live(self.setting.now), "SLIP_LIVE")?;
        let reason = self.act.reason.unwrap();
        ask(["01", "02", "03", "04"].contains(&reason), "MALFORMED")?;
        let invoice = &self.invoice;
        let whole = invoice.credited == 0
            && self.act.amount() == invoice.gross
            && self.act.tax() == invoice.vat.unwrap_or(0);
        ask(reason != "01" || whole, "WHOLE_AMOUNT")?;
        self.within_remainder(self.act.amount(), self.act.tax())?;
        self.liens_allow(self.act.amount())
    }

    fn open_slip(&mut self, state: &'static str, deadline: Option<i64>) {
        self.invoice.slip = Some(Slip {
            warn_at: None,
            state,
            by: self.actor.to_owned(),
            amount: self.act.amount(),
            tax: self.act.tax(),
            deadline,
            reason: self.act.reason.unwrap(),
        });
    }

    fn red_request(&mut self) -> Answer {
        ask(self.is_seller() || self.is_authority(), "NOT_SELLER")?;
        ask(self.invoice.deduction != "export_rebate", "REBATE_ROLLBACK_FIRST")?;
        ask(!self.invoice.used() && self.invoice.bookings.is_empty(), "NEEDS_SLIP")?;
        self.slip_may_open()?;
        self.open_slip("confirmed", None);
        Ok(())
    }

    fn slip_open(&mut self) -> Answer {
        ask(self.is_seller() || self.is_buyer(), "NO_RIGHT")?;
        ask(self.invoice.deduction != "export_rebate", "REBATE_ROLLBACK_FIRST")?;
        ask(self.invoice.used() || !self.invoice.bookings.is_empty(), "NOT_IN_USE")?;
        self.slip_may_open()?;
        let policy = &self.setting.policy;
        let deadline = self.setting.now + policy.slip_ms as i64;
        self.open_slip("pending", Some(deadline));
        if let Some(slip) = &mut self.invoice.slip {
            slip.warn_at = Some(deadline - policy.slip_warning_ms as i64);
        }
        Ok(())
    }

    /// The pending slip that the actor, the other side, may answer.
    fn slip_to_answer(&mut self) -> Result<Slip, &'static str> {
        ask(self.is_seller() || self.is_buyer(), "NO_RIGHT")?;
        let slip = self.invoice.slip.clone().ok_or("NO_SLIP")?;
        ask(slip.by != self.actor, "SAME_PARTY")?;
        ask(slip.state == "pending", "NO_SLIP")?;
        ask(slip.deadline.is_some_and(|at| self.setting.now < at), "SLIP_EXPIRED")?;
        Ok(slip)
    }

    fn close_slip(&mut self, state: &'static str) {
        let slip = self.invoice.slip.as_mut().unwrap();
        (slip.state, slip.deadline) = (state, None);
    }

    fn slip_confirm(&mut self) -> Answer {
        let slip = self.slip_to_answer()?;
        self.within_remainder(slip.amount, slip.tax)?;
        self.liens_allow(slip.amount)?;
        self.close_slip("confirmed");
        Ok(())
    }

    fn slip_refuse(&mut self) -> Answer {
        self.slip_to_answer()?;
        self.close_slip("refused");
        Ok(())
    }

    fn slip_withdraw(&mut self) -> Answer {
        let slip = self.invoice.slip.clone().ok_or("NO_SLIP")?;
        ask(slip.by == self.actor, "NO_RIGHT")?;
        ask(self.invoice.slip_is_live(self.setting.now), "NO_SLIP")?;
        self.close_slip("withdrawn");
        Ok(())
    }

    fn slip_expire(&mut self) -> Answer {
        let slip = self.invoice.slip.clone().filter(|slip| slip.state == "pending");
        let slip = slip.ok_or("NO_SLIP")?;
        ask(slip.deadline.is_some_and(|at| at <= self.setting.now), "NOT_DUE")?;
        self.close_slip("lapsed");
        Ok(())
    }

    fn red_apply(&mut self) -> Answer {
        let slips = self.invoice.rules.slips;
        ask(self.is_authority() || (self.is_seller() && !slips), "WRONG_ROLE")?;
        let number = self.act.red_number.clone().unwrap();
        ask(self.invoice.red_invoices.iter().all(|red| red.0 != number), "ALREADY_DONE")?;
        let confirmed = self.invoice.slip.clone().filter(|slip| slip.state == "confirmed");
        ask(!slips || confirmed.is_some(), "NO_SLIP")?;
        let (amount, tax) = (self.act.amount(), self.act.tax());
        self.within_remainder(amount, tax)?;
        if let Some(slip) = &confirmed {
            ask(amount <= slip.amount && tax <= slip.tax, "AMOUNT_EXCEEDED")?;
        }
        self.credit_lines()?;
        self.credit_rates()?;
        if !slips {
            self.liens_allow(amount)?;
        }
        let invoice = &mut *self.invoice;
        ask(invoice.red_invoices.len() < LIST && invoice.red_lines.len() <= LIST, "TOO_MANY")?;
        invoice.credited += amount;
        invoice.credited_tax += tax;
        invoice.red_invoices.push((number, amount, tax));
        if confirmed.is_some() {
            let slip = invoice.slip.as_mut().unwrap();
            (slip.state, slip.deadline) = ("none", None);
        }
        for financing in invoice.financings.iter_mut().filter(|f| f.live()) {
            let left = financing.red_consent.unwrap_or(0) - amount;
            financing.red_consent = Some(left).filter(|left| *left > 0);
        }
        Ok(())
    }

    fn credit_lines(&mut self) -> Answer {
        for (number, of, credited) in &self.act.lines {
            let lines = &mut self.invoice.red_lines;
            let at = lines.iter().position(|line| line.0 == *number).unwrap_or_else(|| {
                lines.push((*number, *of, 0));
                lines.len() - 1
            });
            let line = &mut lines[at];
            ask(line.1 == *of && *credited >= 0, "MALFORMED")?;
            line.2 += credited;
            ask(line.2 <= line.1, "AMOUNT_EXCEEDED")?;
        }
        Ok(())
    }

    fn credit_rates(&mut self) -> Answer {
        for (rate, taxable, tax) in &self.act.rates {
            let of = self.invoice.rates.iter().find(|known| known.0 == *rate).copied();
            let Some(of) = of else { return Err("MALFORMED") };
            let rates = &mut self.invoice.red_rates;
            let at = rates.iter().position(|known| known.0 == *rate).unwrap_or_else(|| {
                rates.push((*rate, 0, 0));
                rates.len() - 1
            });
            let red = &mut rates[at];
            (red.1, red.2) = (red.1 + taxable, red.2 + tax);
            ask(red.1 <= of.1 && red.2 <= of.2, "AMOUNT_EXCEEDED")?;
        }
        Ok(())
    }

    // Input tax.

    fn buyer_or_authority(&self) -> Answer {
        ask(self.is_buyer() || self.is_authority(), "NOT_BUYER")
    }

    fn deduction_is(&self, wanted: &[&str]) -> Answer {
        match self.invoice.deduction {
            state if wanted.contains(&state) => Ok(()),
            "unselected" => Err("NOT_SELECTED"),
            _ => Err("DEDUCTION_STATE"),
        }
    }

    fn back_to_unselected(&mut self) {
        let invoice = &mut *self.invoice;
        invoice.deduction = "unselected";
        (invoice.deducted, invoice.transferred, invoice.period) = (0, 0, None);
    }

    fn select(&mut self) -> Answer {
        self.buyer_or_authority()?;
        let deductible = self.invoice.rules.deductible;
        let may = deductible.is_none() || deductible == self.invoice.vat_type;
        ask(may, "NOT_DEDUCTIBLE")?;
        ask(self.invoice.risk != "abnormal", "ABNORMAL")?;
        ask(self.invoice.deduction == "unselected", "DEDUCTION_STATE")?;
        self.invoice.deduction = "selected";
        Ok(())
    }

    fn unselect(&mut self) -> Answer {
        self.buyer_or_authority()?;
        self.deduction_is(&["selected", "non_deductible"])?;
        self.back_to_unselected();
        Ok(())
    }

    fn confirm_deduction(&mut self) -> Answer {
        self.deduction_is(&["selected"])?;
        let period = self.act.period.unwrap();
        let (year, month) = (period / 100, period % 100);
        ask((1..=12).contains(&month) && (1900..=2199).contains(&year), "MALFORMED")?;
        ask(period >= self.setting.policy.open_period, "PERIOD_CLOSED")?;
        let of = self.invoice.tax_remainder();
        let tax = self.act.tax.unwrap_or(of);
        ask(tax <= of, "AMOUNT_EXCEEDED")?;
        let invoice = &mut *self.invoice;
        invoice.deduction = "confirmed";
        (invoice.deducted, invoice.period) = (tax, Some(period));
        Ok(())
    }

    fn transfer_out(&mut self) -> Answer {
        self.buyer_or_authority()?;
        self.deduction_is(&["confirmed", "transferred_out"])?;
        let transferred = self.invoice.transferred + self.act.amount();
        ask(transferred <= self.invoice.deducted, "AMOUNT_EXCEEDED")?;
        self.invoice.deduction = "transferred_out";
        self.invoice.transferred = transferred;
        Ok(())
    }

    fn non_deductible(&mut self) -> Answer {
        self.buyer_or_authority()?;
        ask(self.invoice.deduction == "unselected", "DEDUCTION_STATE")?;
        self.invoice.deduction = "non_deductible";
        Ok(())
    }

    fn export_rebate(&mut self) -> Answer {
        ask(self.invoice.deduction != "export_rebate", "ALREADY_DONE")?;
        ask(["unselected", "non_deductible"].contains(&self.invoice.deduction), "IN_USE")?;
        self.invoice.deduction = "export_rebate";
        Ok(())
    }

    fn export_rollback(&mut self) -> Answer {
        self.deduction_is(&["export_rebate"])?;
        self.back_to_unselected();
        Ok(())
    }

    // Reimbursement and booking.

    /// Where the buyer is a participant only he; else any company.
    fn unit_may(&self) -> Answer {
        match self.invoice.buyer {
            Some(buyer) if !role_of(buyer).is_empty() => ask(self.is_buyer(), "NOT_BUYER"),
            _ => ask(role_of(self.actor) == "company", "WRONG_ROLE"),
        }
    }

    fn own_booking(&self) -> Option<usize> {
        self.invoice.bookings.iter().position(|booking| booking.unit == self.actor)
    }

    fn no_booking_room(&self) -> &'static str {
        // Its own booking was refused before, so what there is, another booked.
        if self.invoice.bookings.is_empty() { "AMOUNT_EXCEEDED" } else { "BOOKED_ELSEWHERE" }
    }

    fn claim_open(&mut self) -> Answer {
        self.unit_may()?;
        let claims = &self.invoice.claims;
        ask(claims.iter().all(|claim| claim.unit != self.actor), "ALREADY_CLAIMED")?;
        ask(claims.is_empty(), "CLAIMED_ELSEWHERE")?;
        ask(self.own_booking().is_none(), "ALREADY_BOOKED")?;
        let room = self.invoice.booked() < self.invoice.remainder();
        ask(room, self.no_booking_room())?;
        let (now, expires) = (self.setting.now, self.act.expires());
        ask(expires > now, "MALFORMED")?;
        ask(expires - now <= self.setting.policy.claim_max_ms as i64, "LIMIT")?;
        self.invoice.claims.push(Claim { unit: self.actor.to_owned(), at: now, expires });
        Ok(())
    }

    fn claim_close(&mut self) -> Answer {
        let before = self.invoice.claims.len();
        self.invoice.claims.retain(|claim| claim.unit != self.actor);
        ask(self.invoice.claims.len() < before, "NO_CLAIM")
    }

    fn book(&mut self) -> Answer {
        self.unit_may()?;
        ask(self.own_booking().is_none(), "ALREADY_BOOKED")?;
        let mine = self.invoice.claims.iter().all(|claim| claim.unit == self.actor);
        ask(mine, "CLAIMED_ELSEWHERE")?;
        let mark = self.act.mark.unwrap_or("02");
        ask(["02", "03"].contains(&mark), "MALFORMED")?;
        let room = self.invoice.remainder() + i128::from(self.setting.policy.tolerance);
        ask(self.invoice.booked() + self.act.amount() <= room, self.no_booking_room())?;
        self.invoice.claims.clear();
        self.invoice.bookings.push(Booking {
            unit: self.actor.to_owned(),
            amount: self.act.amount(),
            mark,
            at: self.setting.now,
            archive: None,
        });
        Ok(())
    }

    fn unbook(&mut self) -> Answer {
        let own = self.own_booking().ok_or("NOT_BOOKED")?;
        self.invoice.bookings.remove(own);
        Ok(())
    }

    fn archive(&mut self) -> Answer {
        let own = self.own_booking().ok_or("NOT_BOOKED")?;
        let booking = &mut self.invoice.bookings[own];
        ask(booking.archive.is_none(), "ALREADY_DONE")?;
        booking.archive = self.act.digest;
        Ok(())
    }
}

impl Invoice {
    /// Whether a correction of this field is allowed.
    pub(crate) fn correctable() -> impl Iterator<Item = (u64, bool)> {
        CORRECTIONS.iter().map(|(tag, may)| (u64::from(*tag), *may))
    }
}
