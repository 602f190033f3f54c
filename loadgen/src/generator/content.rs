//! Makes the content of a realistic invoice: parties, currency, lines, totals.
//!
//! All arithmetic is exact: prices and quantities are decimals, a line is rounded once to minor
//! units, its tax once more, and everything above is a sum.
//!
//! Invariants
//! - Totals add up, and tax differs from taxable × rate by rounding of lines alone.
//! - A red invoice has the content of its original, or of its first lines, with the sign changed.

use crate::names::{self, GOODS, Goods};
use crate::parties::Parties;
use crate::rng::{Purpose, Rng};
use piaogen_verify::document::{Document, Fields, Secret};
use piaogen_verify::fields::{Tag, tag};
use piaogen_verify::scheme::{percent_of, round_div};
use piaogen_verify::value;

/// Most lines that the generator gives an invoice: as many as the largest of Online Retail.
const LINES_MAX: u64 = 1_114;

/// Quantiles of lines per invoice: millionths of all invoices, thousandths of a line. Log-normal
/// with median 10 and 99th percentile 190, as Online Retail has it.
const LINE_QUANTILES: &[(u64, u64)] = &[
    (0, 0),
    (10_000, 526),
    (50_000, 1_247),
    (100_000, 1_975),
    (150_000, 2_693),
    (200_000, 3_446),
    (250_000, 4_258),
    (300_000, 5_149),
    (350_000, 6_140),
    (400_000, 7_257),
    (450_000, 8_530),
    (500_000, 10_000),
    (550_000, 11_724),
    (600_000, 13_780),
    (650_000, 16_286),
    (700_000, 19_420),
    (750_000, 23_483),
    (800_000, 29_015),
    (850_000, 37_129),
    (900_000, 50_635),
    (925_000, 61_842),
    (950_000, 80_195),
    (970_000, 108_104),
    (980_000, 134_558),
    (985_000, 155_906),
    (990_000, 190_000),
    (993_000, 224_241),
    (995_000, 260_549),
    (997_000, 323_898),
    (998_000, 382_011),
    (999_000, 499_629),
    (999_500, 643_793),
    (1_000_000, LINES_MAX * 1_000),
];

/// Code, exponent, share of 1000, price of one yuan in hundredths.
const CURRENCIES: &[([u8; 3], u8, u64, u64)] = &[
    (*b"CNY", 2, 820, 100),
    (*b"USD", 2, 70, 14),
    (*b"EUR", 2, 50, 12),
    (*b"HKD", 2, 30, 110),
    (*b"JPY", 0, 30, 2_100),
];

/// Rate in percent and its share of 1000, as the main rate of an invoice.
const RATES: &[(u8, u64)] = &[(13, 550), (6, 240), (9, 140), (3, 40), (0, 20), (1, 10)];

/// Companies that buy.
const BUYERS: u64 = 20_000;
/// Buyers have names of their own, far from those of the sellers.
const FIRST_BUYER: u64 = 1 << 40;

/// Decimals of a unit price, before trailing zeros are dropped.
const PRICE_SCALE: u8 = 4;

/// What is particular to one record: number, times, secret.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) number: String,
    pub(crate) date: (u32, u32, u32),
    pub(crate) signed_at: i64,
    pub(crate) secret: Secret,
}

#[derive(Debug)]
struct Line {
    goods: &'static Goods,
    quantity: (i128, u8),
    price: (i128, u8),
    net: i128,
    rate: u8,
    tax: i128,
}

/// The content of an invoice, without its head.
#[derive(Debug)]
pub(crate) struct Content {
    /// Place of the seller among the parties.
    pub(crate) seller: usize,
    buyer: Option<u64>,
    currency: ([u8; 3], u8),
    lines: Vec<Line>,
    rng: Rng,
}

impl Content {
    /// The content of the stream with this index.
    pub(crate) fn new(seed: u64, index: u64, sellers: usize) -> Content {
        let mut rng = Rng::new(seed, Purpose::Content, index);
        // The square of a fraction: some sellers issue far more than others.
        let wide = rng.below(1 << 20);
        let seller = (((wide * wide) >> 20) as usize * sellers) >> 20;
        let buyer = (!rng.chance(200)).then(|| rng.below(BUYERS));
        let currency = weighted(&mut rng, CURRENCIES, |c| c.2);
        let main_rate = weighted(&mut rng, RATES, |r| r.1).0;
        let lines = (0..line_count(&mut rng))
            .map(|_| {
                let rate = match rng.chance(60) {
                    true => weighted(&mut rng, RATES, |r| r.1).0,
                    false => main_rate,
                };
                line(&mut rng, rate, (currency.1, currency.3))
            })
            .collect();
        Content { seller, buyer, currency: (currency.0, currency.1), lines, rng }
    }

    /// Keeps the first lines alone, at least one.
    pub(crate) fn keep(&mut self, lines: usize) {
        self.lines.truncate(lines.max(1));
    }

    /// Total without tax, and the tax.
    pub(crate) fn totals(&self) -> (i128, i128) {
        let sum = |of: fn(&Line) -> i128| self.lines.iter().map(of).sum();
        (sum(|line| line.net), sum(|line| line.tax))
    }

    /// How many lines there are.
    pub(crate) fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// The document; amounts have this sign. Without `full`, lines have a made-up root.
    pub(crate) fn document(
        &self,
        seed: u64,
        scheme: &str,
        head: &Head,
        sign: i128,
        parties: &Parties,
        full: bool,
    ) -> Document {
        let mut fields = Fields::new();
        put_text(&mut fields, tag::SCHEME, scheme);
        put_text(&mut fields, tag::NUMBER, &head.number);
        fields.set(tag::ISSUE_DATE, value::date(head.date.0, head.date.1, head.date.2));
        put_text(&mut fields, tag::TYPE_CODE, if sign < 0 { "381" } else { "380" });
        fields.set(tag::CURRENCY, value::currency(self.currency.0, self.currency.1));
        fields.set(REQUESTED_AT, value::time(head.signed_at - 1_500));
        let mut rng = self.rng.clone();
        self.put_parties(&mut fields, seed, parties, &mut rng);
        self.put_totals(&mut fields, sign);
        let chinese = parties.get(self.seller).chinese;
        put_text(&mut fields, DRAWER, &names::person(&mut rng, chinese));
        if rng.chance(400) {
            put_text(&mut fields, REMARK, &remark(&mut rng, chinese));
        }
        let lines = match full {
            true => (1..).zip(&self.lines).map(|(id, l)| l.fields(id, sign, chinese)).collect(),
            false => Vec::new(),
        };
        let mut document = Document { secret: head.secret, fields, lines };
        if full {
            document.seal();
        } else {
            let mut bytes = (self.lines.len() as u32).to_be_bytes().to_vec();
            bytes.extend_from_slice(&rng.bytes::<32>());
            document.fields.set(tag::LINES, bytes);
        }
        document
    }

    fn put_parties(&self, fields: &mut Fields, seed: u64, parties: &Parties, rng: &mut Rng) {
        let seller = parties.get(self.seller);
        put_text(fields, tag::SELLER_PARTY, &seller.id);
        put_text(fields, tag::SELLER_NAME, &seller.name);
        put_text(fields, SELLER_ADDRESS, &seller.address);
        put_text(fields, VAT_TYPE, if self.buyer.is_some() { "01" } else { "02" });
        let account = format!("6222{:015}", rng.below(1_000_000_000_000_000));
        let bank = if seller.chinese { "中国工商银行深圳分行" } else { "ICBC Shenzhen" };
        fields.set(ACCOUNTS, value::list(&[vec![(84, account.into_bytes()), (86, bank.into())]]));
        let Some(buyer) = self.buyer else {
            put_text(fields, tag::BUYER_NAME, &names::person(rng, seller.chinese));
            return;
        };
        let mut rng = Rng::new(seed, Purpose::Party, FIRST_BUYER + buyer);
        let chinese = rng.chance(600);
        let (name, city) = names::company(&mut rng, chinese);
        put_text(fields, tag::BUYER_NAME, &name);
        put_text(fields, BUYER_ADDRESS, &names::address(&mut rng, chinese, city));
        let code = names::credit_code(&mut rng, city.2);
        put_text(fields, BUYER_PARTY, &format!("CN-USCC:{code}"));
    }

    fn put_totals(&self, fields: &mut Fields, sign: i128) {
        let (net, vat) = self.totals();
        fields.set_amount(tag::LINES_NET, sign * net);
        fields.set_amount(tag::TOTAL_NET, sign * net);
        fields.set_amount(tag::TOTAL_VAT, sign * vat);
        fields.set_amount(tag::TOTAL_GROSS, sign * (net + vat));
        let entries: Vec<Vec<(Tag, Vec<u8>)>> = RATES
            .iter()
            .filter_map(|(rate, _)| {
                let lines = || self.lines.iter().filter(|line| line.rate == *rate);
                lines().next()?;
                let taxable: i128 = lines().map(|line| line.net).sum();
                let tax: i128 = lines().map(|line| line.tax).sum();
                Some(vec![
                    (tag::TAXABLE, value::amount(sign * taxable)),
                    (tag::TAX, value::amount(sign * tax)),
                    (VAT_CATEGORY, category(*rate)),
                    (tag::VAT_RATE, value::decimal(i128::from(*rate), 0)),
                ])
            })
            .collect();
        fields.set(tag::VAT_BREAKDOWN, value::list(&entries));
    }
}

const SELLER_ADDRESS: Tag = 162;
const BUYER_ADDRESS: Tag = 163;
const VAT_CATEGORY: Tag = 118;
const ACCOUNTS: Tag = 1017;
const BUYER_PARTY: Tag = 2007;
const VAT_TYPE: Tag = 2020;
const REQUESTED_AT: Tag = 2022;
const DRAWER: Tag = 2023;
const REMARK: Tag = 2024;

/// Sets a text that is in NFC already, as all texts of [`names`] are; the tests check documents.
fn put_text(fields: &mut Fields, tag: Tag, text: &str) {
    if !text.is_empty() {
        fields.set(tag, text.as_bytes().to_vec());
    }
}

fn category(rate: u8) -> Vec<u8> {
    if rate == 0 { b"Z".to_vec() } else { b"S".to_vec() }
}

fn weighted<'a, T>(rng: &mut Rng, table: &'a [T], share: impl Fn(&T) -> u64) -> &'a T {
    let mut left = rng.below(table.iter().map(&share).sum());
    for item in table {
        match left.checked_sub(share(item)) {
            None => return item,
            Some(rest) => left = rest,
        }
    }
    &table[0]
}

fn line_count(rng: &mut Rng) -> u64 {
    let at = rng.below(1_000_000);
    let above = LINE_QUANTILES.partition_point(|(share, _)| *share <= at);
    let ((x0, y0), (x1, y1)) = (LINE_QUANTILES[above - 1], LINE_QUANTILES[above]);
    let thousandths = y0 + (y1 - y0) * (at - x0) / (x1 - x0);
    ((thousandths + 500) / 1_000).max(1)
}

fn line(rng: &mut Rng, rate: u8, (exponent, per_yuan): (u8, u64)) -> Line {
    let begin = GOODS.partition_point(|goods| goods.rate > rate);
    let end = GOODS.partition_point(|goods| goods.rate >= rate);
    let goods = rng.pick(&GOODS[begin..end]);
    let price = goods.price * per_yuan / 100 * (1_000 + rng.below(1_000)) / 1_000;
    // One in ten prices was computed back from a price with tax and has many decimals.
    let price = match rng.chance(100) {
        true => (i128::from(price * 10_000 + rng.below(10_000)), PRICE_SCALE + 4),
        false => (i128::from(price), PRICE_SCALE),
    };
    let quantity = match goods.unit.1 {
        // From a tenth up, so that no line is worth nothing.
        "t" | "kg" | "m3" => (100 + i128::from(rng.below(50_000)), 3),
        "lot" => (1, 0),
        _ => (1 + i128::from(rng.below(20) * rng.below(20) / 4), 0),
    };
    let scale = u32::from(price.1 + quantity.1 - exponent);
    let net = round_div(price.0 * quantity.0, 10i128.pow(scale));
    Line { goods, quantity, price, net, rate, tax: percent_of(net, i128::from(rate), 0) }
}

impl Line {
    fn fields(&self, id: u32, sign: i128, chinese: bool) -> Fields {
        let choose = |zh, en| if chinese { zh } else { en };
        let mut fields = Fields::new();
        put_text(&mut fields, 126, &id.to_string());
        fields.set(129, value::decimal(sign * self.quantity.0, self.quantity.1));
        put_text(&mut fields, 130, choose(self.goods.unit.0, self.goods.unit.1));
        fields.set_amount(tag::LINE_NET, sign * self.net);
        fields.set(146, value::decimal(self.price.0, self.price.1));
        fields.set(151, category(self.rate));
        fields.set(152, value::decimal(i128::from(self.rate), 0));
        put_text(&mut fields, 153, choose(self.goods.chinese, self.goods.latin));
        let class = vec![(158, self.goods.code.into()), (2158, b"CN-SPBM".to_vec())];
        fields.set(1158, value::list(&[class]));
        fields.set_amount(2131, sign * self.tax);
        put_text(&mut fields, 2153, self.goods.model);
        fields
    }
}

fn remark(rng: &mut Rng, chinese: bool) -> String {
    let order = 100_000 + rng.below(899_999);
    match chinese {
        true => format!("订单号：{order}；请于三十日内付款。"),
        false => format!("Order {order}; payable within 30 days, société générale."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_distribution_of_real_invoices() {
        let mut counts: Vec<u64> =
            (0..40_000).map(|i| line_count(&mut Rng::new(11, Purpose::Content, i))).collect();
        counts.sort_unstable();
        let at = |percent: usize| counts[counts.len() * percent / 100];
        assert!((9..=11).contains(&at(50)), "median {}", at(50));
        assert!((170..=210).contains(&at(99)), "p99 {}", at(99));
        assert!(counts[0] >= 1 && counts[counts.len() - 1] <= LINES_MAX);
    }

    #[test]
    fn every_rate_has_goods() {
        for (rate, _) in RATES {
            assert!(GOODS.iter().any(|goods| goods.rate == *rate));
        }
    }
}
