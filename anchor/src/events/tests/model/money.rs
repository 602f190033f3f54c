//! The model's rules of the buyer's word, financing and payments (PROTOCOL 7.2).

use super::{Answer, Consent, Financing, Invoice, LIST, Payment, Setting, Step, ask, role_of};
use piaogen_verify::record::RecordKind as R;

const QUERY: u64 = 1;
const HOLD: u64 = 2;
const FINANCE: u64 = 4;

impl Invoice {
    /// Whether the actor may ask: nothing changes.
    pub(super) fn query(&self, actor: &str, setting: &Setting) -> Answer {
        let known = ["authority", "auditor"].contains(&role_of(actor))
            || self.seller == actor
            || self.buyer == Some(actor)
            || self.financings.iter().any(|financing| financing.holder == actor);
        if known {
            return Ok(());
        }
        ask(role_of(actor) == "bank", "NO_RIGHT")?;
        self.consented(actor, QUERY, None, setting.now)
    }

    /// `amount` is all that the bank would then have here.
    fn consented(&self, bank: &str, scope: u64, amount: Option<i128>, now: i64) -> Answer {
        let consent = self.consents.iter().find(|c| c.bank == bank && c.scope & scope != 0);
        let consent = consent.ok_or("NO_CONSENT")?;
        ask(consent.expires > now, "EXPIRED")?;
        let within = match (consent.amount, amount) {
            (Some(limit), Some(amount)) => amount <= limit,
            _ => true,
        };
        ask(within, "AMOUNT_EXCEEDED")
    }
}

impl Step<'_> {
    pub(super) fn run_money(&mut self) -> Answer {
        match self.act.kind {
            R::ConfirmRequest => self.confirm_request(),
            R::BuyerConfirm => self.buyer_confirm(),
            R::BuyerDispute => self.buyer_dispute(),
            R::BuyerRefuse => self.buyer_refuse(),
            R::DisputeResolve => self.dispute_resolve(),
            R::ConsentGrant => self.consent_grant(),
            R::ConsentRevoke => self.consent_revoke(),
            R::FinanceHold => self.finance_hold(),
            R::HoldCancel => self.hold_cancel(),
            R::HoldExpire => self.hold_expire(),
            R::FinanceOpen => self.finance_open(),
            R::Notice => self.notice(),
            R::NoticeAck => self.notice_ack(),
            R::RegistryRef => self.registry_ref(),
            R::ConsentRed => self.consent_red(),
            R::Release => self.release(),
            R::Settle => self.settle(),
            R::FinanceTransfer => self.finance_transfer(),
            R::TransferAccept => self.transfer_accept(),
            R::Default => self.default(),
            R::Cure => self.cure(),
            R::Payment => self.payment(),
            R::PaymentAck => self.payment_ack(),
            kind => unreachable!("{kind:?}"),
        }
    }

    // The buyer's word.

    fn confirm_request(&mut self) -> Answer {
        let now = self.setting.now;
        let banks = |c: &Consent| c.bank == self.actor && c.expires > now;
        ask(self.is_seller() || self.invoice.consents.iter().any(banks), "NO_RIGHT")?;
        let word = &mut self.invoice.word;
        ask(word.state != "requested", "ALREADY_DONE")?;
        ask(!["confirmed", "disputed"].contains(&word.state), "CONFIRM_STANDS")?;
        word.state = "requested";
        Ok(())
    }

    fn buyer_confirm(&mut self) -> Answer {
        ask(self.is_buyer(), "NOT_BUYER")?;
        let (amount, paid) = (self.act.amount(), self.invoice.paid());
        ask(amount <= self.invoice.remainder(), "AMOUNT_EXCEEDED")?;
        if self.invoice.word.amount.is_some() {
            ask(amount >= paid + self.invoice.to_cover(), "CONFIRM_STANDS")?;
        }
        let word = &mut self.invoice.word;
        word.state = "confirmed";
        word.amount = Some(amount);
        word.account = self.act.account;
        word.due = self.act.due;
        word.no_set_off |= self.act.no_set_off;
        word.disputed = None;
        Ok(())
    }

    fn buyer_dispute(&mut self) -> Answer {
        ask(self.is_buyer(), "NOT_BUYER")?;
        ask(self.act.amount() <= self.invoice.remainder(), "AMOUNT_EXCEEDED")?;
        self.invoice.word.state = "disputed";
        self.invoice.word.disputed = Some(self.act.amount());
        Ok(())
    }

    fn buyer_refuse(&mut self) -> Answer {
        ask(self.is_buyer(), "NOT_BUYER")?;
        ask(self.invoice.word.amount.is_none(), "CONFIRM_STANDS")?;
        self.invoice.word.state = "refused";
        Ok(())
    }

    fn dispute_resolve(&mut self) -> Answer {
        ask(self.is_buyer(), "NOT_BUYER")?;
        let word = &mut self.invoice.word;
        ask(word.state == "disputed", "NOT_DISPUTED")?;
        word.state = if word.amount.is_some() { "confirmed" } else { "none" };
        word.disputed = None;
        Ok(())
    }

    // Consents.

    fn consent_grant(&mut self) -> Answer {
        ask(self.is_seller(), "NOT_SELLER")?;
        let bank = self.act.party.unwrap();
        ask(role_of(bank) == "bank", "NOT_FOUND")?;
        let scope = self.act.scope.unwrap();
        ask((1..=7).contains(&scope), "MALFORMED")?;
        ask(self.act.expires() > self.setting.now, "EXPIRED")?;
        let (amount, expires) = (self.act.amount, self.act.expires());
        self.invoice.consents.retain(|consent| consent.bank != bank);
        self.invoice.consents.push(Consent { bank, amount, expires, scope });
        Ok(())
    }

    fn consent_revoke(&mut self) -> Answer {
        ask(self.is_seller(), "NOT_SELLER")?;
        let before = self.invoice.consents.len();
        self.invoice.consents.retain(|consent| Some(consent.bank) != self.act.party);
        ask(self.invoice.consents.len() < before, "NO_CONSENT")
    }

    // Conditions of financing.

    fn consented(&self, scope: u64) -> Answer {
        let own = self.invoice.financings.iter().filter(|f| f.live() && f.holder == self.actor);
        let others = own.filter(|f| f.state != "hold" || Some(f.id) != self.act.financing);
        let all = others.map(|f| f.assigned).sum::<i128>() + self.act.amount();
        self.invoice.consented(self.actor, scope, Some(all), self.setting.now)
    }

    /// Section 7.3.
    fn may_know(&self) -> bool {
        let (invoice, now) = (&self.invoice, self.setting.now);
        let disclosed = self.setting.policy.disclose_capacity == 1;
        self.is_seller()
            || self.is_buyer()
            || role_of(self.actor) == "authority"
            || disclosed && invoice.consented(self.actor, QUERY, None, now).is_ok()
    }

    fn financeable(&self) -> Answer {
        let (invoice, policy, now) = (&self.invoice, &self.setting.policy, self.setting.now);
        let import = invoice.origin != "import" || policy.imported_financeable == 1;
        ask(invoice.gross > 0 && import, "NOT_FINANCEABLE")?;
        ask(invoice.risk == "normal", "ABNORMAL")?;
        ask(!invoice.slip_is_live(now), "SLIP_LIVE")?;
        ask(!invoice.past_due(now), "MATURED")?;
        let confirmed = policy.confirmation_required == 0 || invoice.word.amount.is_some();
        ask(invoice.word.state != "refused" && confirmed, "NOT_CONFIRMED")?;
        ask(invoice.financings.iter().all(|f| f.state != "defaulted"), "ENCUMBERED")?;
        let whole = self.act.amount() == invoice.remainder();
        let answer = if self.may_know() { "WHOLE_AMOUNT" } else { "NOT_WHOLE" };
        ask(policy.partial_financing == 1 || whole, answer)
    }

    fn others(&self) -> impl Iterator<Item = &Financing> {
        self.invoice.financings.iter().filter(|f| f.live() && f.holder != self.actor)
    }

    /// No other is in the way, and there is capacity for it.
    fn free(&self) -> Answer {
        let in_the_way: Vec<&Financing> =
            self.others().filter(|f| !f.divisible || !self.act.divisible).collect();
        if !in_the_way.is_empty() {
            let holds = in_the_way.iter().all(|f| f.state == "hold");
            return Err(if holds { "HELD" } else { "ENCUMBERED" });
        }
        self.capacity_for(0)
    }

    /// The amount is within the capacity and this much more.
    fn capacity_for(&self, own: i128) -> Answer {
        let (amount, capacity) = (self.act.amount(), self.invoice.capacity() + own);
        if amount <= capacity {
            return Ok(());
        }
        let held: i128 = self.others().filter(|f| f.state == "hold").map(|f| f.assigned).sum();
        if amount <= capacity + held {
            return Err("HELD");
        }
        Err(if self.may_know() { "CAPACITY_LEFT" } else { "CAPACITY" })
    }

    fn find(&self) -> Result<usize, &'static str> {
        let id = self.act.financing.unwrap();
        self.invoice.financings.iter().position(|f| f.id == id).ok_or("NO_HOLD")
    }

    fn own_hold(&self) -> Result<usize, &'static str> {
        let at = self.find()?;
        let hold = &self.invoice.financings[at];
        ask(hold.holder == self.actor, "NOT_HOLDER")?;
        ask(hold.state == "hold", "STALE_TOKEN")?;
        Ok(at)
    }

    /// The live financing that the event names; whose, where `holder` asks.
    fn live(&self, holder: bool) -> Result<usize, &'static str> {
        let at = self.find()?;
        let financing = &self.invoice.financings[at];
        ask(!holder || financing.holder == self.actor, "NOT_HOLDER")?;
        ask(financing.live(), "ALREADY_CLOSED")?;
        ask(financing.state != "hold", "FINANCING_STATE")?;
        Ok(at)
    }

    // Financing.

    fn new_financing(&self, state: &'static str) -> Financing {
        Financing {
            state,
            holder: self.actor.to_owned(),
            assigned: self.act.amount(),
            id: self.invoice.financings.len() as u64 + 1,
            form: None,
            advanced: None,
            expires: None,
            divisible: self.act.divisible,
            noticed: None,
            acknowledged: false,
            account: None,
            offered_to: None,
            red_consent: None,
            repaid: 0,
            external: Vec::new(),
        }
    }

    fn finance_hold(&mut self) -> Answer {
        self.consented(HOLD)?;
        let (now, expires) = (self.setting.now, self.act.expires());
        ask(expires > now, "MALFORMED")?;
        ask(expires - now <= self.setting.policy.hold_max_ms as i64, "LIMIT")?;
        self.financeable()?;
        self.free()?;
        ask(self.invoice.financings.len() < LIST, "TOO_MANY")?;
        let hold = Financing { expires: Some(expires), ..self.new_financing("hold") };
        self.invoice.financings.push(hold);
        Ok(())
    }

    fn hold_cancel(&mut self) -> Answer {
        let at = self.own_hold()?;
        self.invoice.financings[at].state = "released";
        Ok(())
    }

    fn hold_expire(&mut self) -> Answer {
        let at = self.find()?;
        let hold = &mut self.invoice.financings[at];
        ask(hold.expires.is_none_or(|expires| expires <= self.setting.now), "NOT_DUE")?;
        ask(self.lapsed.contains(&hold.id), "STALE_TOKEN")?;
        hold.state = "released";
        Ok(())
    }

    fn finance_open(&mut self) -> Answer {
        self.consented(FINANCE)?;
        let advanced = self.act.advanced.unwrap();
        ask(advanced <= self.act.amount(), "MALFORMED")?;
        let forms = ["pledge", "assignment", "discount"];
        ask(self.act.form.is_some_and(|form| forms.contains(&form)), "MALFORMED")?;
        let held = match self.act.financing {
            None => None,
            Some(_) => {
                let at = self.own_hold()?;
                let held = self.invoice.financings[at].assigned;
                ask(self.act.amount() <= held, "AMOUNT_EXCEEDED")?;
                Some(at)
            }
        };
        self.financeable()?;
        let at = match held {
            Some(at) => {
                self.capacity_for(self.invoice.financings[at].assigned)?;
                at
            }
            None => {
                self.free()?;
                ask(self.invoice.financings.len() < LIST, "TOO_MANY")?;
                let new = self.new_financing("open");
                self.invoice.financings.push(new);
                self.invoice.financings.len() - 1
            }
        };
        let financing = &mut self.invoice.financings[at];
        financing.state = "open";
        financing.assigned = self.act.amount();
        financing.form = self.act.form;
        financing.advanced = Some(advanced);
        financing.account = self.act.account;
        financing.expires = None;
        Ok(())
    }

    fn notice(&mut self) -> Answer {
        let at = self.live(!self.is_seller())?;
        let version = self.invoice.version;
        let financing = &mut self.invoice.financings[at];
        ask(financing.noticed.is_none(), "ALREADY_NOTIFIED")?;
        financing.noticed = Some(version);
        financing.account = self.act.account.or(financing.account);
        Ok(())
    }

    fn notice_ack(&mut self) -> Answer {
        ask(self.is_buyer(), "NOT_BUYER")?;
        let at = self.live(false)?;
        let financing = &mut self.invoice.financings[at];
        ask(financing.noticed.is_some(), "NOT_NOTIFIED")?;
        ask(!financing.acknowledged, "ALREADY_DONE")?;
        financing.acknowledged = true;
        Ok(())
    }

    fn registry_ref(&mut self) -> Answer {
        let at = self.live(true)?;
        let number = (self.act.system.unwrap(), self.act.reference.clone().unwrap());
        let external = &mut self.invoice.financings[at].external;
        ask(!external.contains(&number), "ALREADY_DONE")?;
        ask(external.len() < LIST, "TOO_MANY")?;
        external.push(number);
        Ok(())
    }

    fn consent_red(&mut self) -> Answer {
        let at = self.find()?;
        ask(self.invoice.financings[at].holder == self.actor, "NOT_HOLDER")?;
        ask(self.invoice.financings[at].live(), "ALREADY_CLOSED")?;
        ask(self.act.amount() <= self.invoice.remainder(), "AMOUNT_EXCEEDED")?;
        self.invoice.financings[at].red_consent = self.act.amount;
        Ok(())
    }

    fn release(&mut self) -> Answer {
        let at = self.live(true)?;
        let financing = &mut self.invoice.financings[at];
        let amount = self.act.amount.unwrap_or(financing.assigned);
        ask(amount <= financing.assigned, "AMOUNT_EXCEEDED")?;
        if amount == financing.assigned {
            financing.state = "released";
        } else {
            financing.assigned -= amount;
        }
        financing.repaid = (financing.repaid - amount).max(0);
        Ok(())
    }

    fn settle(&mut self) -> Answer {
        let at = self.live(true)?;
        self.invoice.financings[at].state = "settled";
        Ok(())
    }

    fn finance_transfer(&mut self) -> Answer {
        let at = self.live(true)?;
        let bank = self.act.party.unwrap();
        ask(role_of(bank) == "bank", "NOT_FOUND")?;
        ask(bank != self.actor, "SAME_PARTY")?;
        self.invoice.financings[at].offered_to = Some(bank);
        Ok(())
    }

    fn transfer_accept(&mut self) -> Answer {
        let at = self.find()?;
        let financing = &mut self.invoice.financings[at];
        ask(financing.live(), "ALREADY_CLOSED")?;
        ask(financing.offered_to == Some(self.actor), "NOT_OFFERED")?;
        financing.holder = self.actor.to_owned();
        financing.offered_to = None;
        // The buyer was told of another bank and its account.
        (financing.noticed, financing.acknowledged, financing.account) = (None, false, None);
        Ok(())
    }

    fn default(&mut self) -> Answer {
        let at = self.live(true)?;
        ask(self.invoice.financings[at].state != "defaulted", "ALREADY_DONE")?;
        let due = self.invoice.due_day().is_none() || self.invoice.past_due(self.setting.now);
        ask(due, "NOT_DUE")?;
        self.invoice.financings[at].state = "defaulted";
        Ok(())
    }

    fn cure(&mut self) -> Answer {
        let at = self.live(true)?;
        let financing = &mut self.invoice.financings[at];
        ask(financing.state == "defaulted", "FINANCING_STATE")?;
        financing.state = "open";
        Ok(())
    }

    // Payments.

    fn bound_account(&self) -> Option<u8> {
        let told = |f: &&Financing| f.live() && f.noticed.is_some() && f.account.is_some();
        let last = self.invoice.financings.iter().filter(told).max_by_key(|f| f.noticed);
        last.map_or(self.invoice.word.account, |financing| financing.account)
    }

    fn payment(&mut self) -> Answer {
        ask(role_of(self.actor) == "bank" || self.is_buyer(), "NO_RIGHT")?;
        let reference = self.act.reference.clone().unwrap();
        let same = |p: &Payment| p.by == self.actor && p.reference == reference;
        ask(!self.invoice.payments.iter().any(same), "ALREADY_DONE")?;
        let owed = self.invoice.remainder() - self.invoice.paid();
        let answer = if self.may_know() { "OVERPAID" } else { "MORE_THAN_OWED" };
        ask(self.act.amount() <= owed, answer)?;
        ask(self.invoice.payments.len() < LIST, "TOO_MANY")?;
        let bound = self.bound_account();
        self.invoice.payments.push(Payment {
            by: self.actor.to_owned(),
            amount: self.act.amount(),
            reference,
            acknowledged: false,
            wrong_payee: bound.is_some() && bound != self.act.account,
        });
        self.repay();
        Ok(())
    }

    /// To the account of what the buyer was told of: the last told first, each to its full.
    fn repay(&mut self) {
        let account = self.act.account;
        let told = |f: &&mut Financing| f.live() && f.noticed.is_some() && f.account == account;
        let mut all: Vec<&mut Financing> =
            self.invoice.financings.iter_mut().filter(told).collect();
        all.sort_by_key(|f| f.noticed);
        let mut left = if account.is_some() { self.act.amount.unwrap_or(0) } else { 0 };
        while let Some(financing) = all.pop() {
            let takes = left.min(financing.assigned - financing.repaid);
            financing.repaid += takes;
            left -= takes;
        }
    }

    fn payment_ack(&mut self) -> Answer {
        let holds = self.invoice.financings.iter().any(|f| f.holder == self.actor);
        ask(self.is_seller() || holds, "NO_RIGHT")?;
        let reference = self.act.reference.as_ref().unwrap();
        let known: Vec<usize> = (0..self.invoice.payments.len())
            .filter(|at| self.invoice.payments[*at].reference == *reference)
            .collect();
        ask(!known.is_empty(), "UNKNOWN_PAYMENT")?;
        let open = known.into_iter().find(|at| !self.invoice.payments[*at].acknowledged);
        self.invoice.payments[open.ok_or("ALREADY_DONE")?].acknowledged = true;
        Ok(())
    }
}
