//! Reads the UCI "Online Retail" file into invoices, and reports what is none, row by row.
//!
//! Rows with one invoice number are one invoice, wherever they stand. Nothing is dropped in
//! silence: each row is in an invoice that is sent, or in the report with its reason.
//!
//! Invariants
//! - Rows in invoices and rows in the report together are the rows of the file.
//! - Prices and amounts are exact; a line is rounded once, half away from zero, to the penny.

use piaogen_verify::scheme::round_div;
use piaogen_verify::value;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

/// Most originals that a credit names.
pub const ORIGINALS_MAX: usize = value::LIST_MAX as usize;
/// Most rows that are read; the file has 541,909.
pub const ROWS_MAX: u64 = 50_000_000;

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum RetailError {
    /// The file cannot be opened or read.
    #[error("{path} cannot be read: {source}; give the path of online_retail.csv or .csv.gz")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no CSV, or has other columns.
    #[error("{path} is not the expected CSV: {what}")]
    Form {
        /// Which file.
        path: String,
        /// What is wrong.
        what: String,
    },
}

/// Year, month, day.
pub type Day = (u32, u32, u32);

/// One line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Row in the file; the first after the header is 1.
    pub row: u64,
    /// Stock code.
    pub stock: String,
    /// Description; may be empty.
    pub description: String,
    /// Pieces; negative on a credit.
    pub quantity: i128,
    /// Unit price in pounds: mantissa and scale.
    pub price: (i128, u8),
    /// Quantity × price in pennies.
    pub net: i128,
}

/// What an invoice of the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sort {
    /// A sale.
    Sale,
    /// A credit: its number begins with C.
    Credit,
    /// An adjustment of bad debt: its number begins with A.
    Adjustment,
}

/// One invoice of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// Its number.
    pub number: String,
    /// What it is.
    pub sort: Sort,
    /// Time of its first row, milliseconds since 1970, the file's clock taken as UTC.
    pub at_ms: i64,
    /// Its day.
    pub date: Day,
    /// Customer; empty for a consumer.
    pub customer: String,
    /// Country of the customer.
    pub country: String,
    /// Its lines, in the order of the file.
    pub lines: Vec<Line>,
    /// Originals that a credit names, in the order of the pairs, and the day of each where it is
    /// in the file.
    pub originals: Vec<(String, Option<Day>)>,
    /// How many more originals there are than can be named.
    pub originals_left_out: usize,
}

/// Why a row is in no invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Its invoice has no line with a positive quantity and a price above zero.
    NotAnInvoice,
    /// A number, date or price cannot be read.
    Unreadable,
    /// Its sign contradicts its invoice.
    Sign,
}

impl Reason {
    /// The name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Reason::NotAnInvoice => "NOT_AN_INVOICE",
            Reason::Unreadable => "UNREADABLE",
            Reason::Sign => "SIGN",
        }
    }
}

/// A row that is in no invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Row in the file; the first after the header is 1.
    pub row: u64,
    /// Its invoice number.
    pub number: String,
    /// Why.
    pub reason: Reason,
}

/// What one credit takes back of one original, by inference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reversal {
    /// The credit, by its place among the invoices.
    pub credit: usize,
    /// The original, likewise; it stands before the credit.
    pub original: usize,
    /// Lines of the original, ascending: number from 1, net amount, what is credited of it.
    pub lines: Vec<(u32, i128, i128)>,
}

/// Most lines that an event names.
pub const LINES_OF_EVENT_MAX: usize = value::LIST_MAX as usize;

/// The file, read.
#[derive(Clone, Debug, Default)]
pub struct Retail {
    /// Invoices, in the order of their first rows.
    pub invoices: Vec<Invoice>,
    /// Rows that are in none, ascending.
    pub reported: Vec<Reported>,
    /// Rows of the file.
    pub rows: u64,
    /// How many invoice numbers are in none, because no row of theirs can be used.
    pub not_invoices: u64,
    /// What credits take back of originals, by credit and original, ascending.
    pub reversals: Vec<Reversal>,
    /// Pairs whose rows are not lines of their invoices, so that they reverse nothing.
    pub pairs_unfit: u64,
}

const COLUMNS: [&str; 8] = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
];

impl Retail {
    /// Reads the file, and the pairs of credits and originals where a file of them is given.
    pub fn read(file: &Path, pairs: Option<&Path>) -> Result<Retail, RetailError> {
        let mut retail = Retail::read_rows(open(file)?, &file.display().to_string())?;
        if let Some(pairs) = pairs {
            retail.read_pairs(open(pairs)?, &pairs.display().to_string())?;
        }
        Ok(retail)
    }

    /// Reads rows from anything; `name` is for messages.
    pub fn read_rows(reader: impl Read, name: &str) -> Result<Retail, RetailError> {
        let mut reader = csv::Reader::from_reader(reader);
        let headers = reader.headers().map_err(|error| form(name, &error.to_string()))?;
        if headers.iter().map(|h| h.trim_start_matches('\u{feff}')).ne(COLUMNS) {
            return Err(form(name, &format!("its columns are not {}", COLUMNS.join(", "))));
        }
        let mut retail = Retail::default();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|error| form(name, &error.to_string()))? {
            retail.rows += 1;
            if retail.rows > ROWS_MAX {
                return Err(form(name, &format!("it has more than {ROWS_MAX} rows")));
            }
            retail.take_row(&record, &mut places);
        }
        retail.sort_out();
        Ok(retail)
    }

    fn take_row(&mut self, record: &csv::StringRecord, places: &mut HashMap<String, usize>) {
        let (row, number) = (self.rows, record[0].trim());
        let Some((line, time)) = read_line(row, record) else {
            let number = number.to_string();
            self.reported.push(Reported { row, number, reason: Reason::Unreadable });
            return;
        };
        let at = *places.entry(number.into()).or_insert_with(|| {
            self.invoices.push(Invoice {
                number: number.into(),
                sort: sort_of(number),
                at_ms: time.1,
                date: time.0,
                customer: record[6].trim().into(),
                country: record[7].trim().into(),
                lines: Vec::new(),
                originals: Vec::new(),
                originals_left_out: 0,
            });
            self.invoices.len() - 1
        });
        self.invoices[at].lines.push(line);
    }

    /// Moves what is no invoice, and rows that contradict theirs, to the report.
    fn sort_out(&mut self) {
        let reported = &mut self.reported;
        let mut report = |number: &str, row, reason| {
            reported.push(Reported { row, number: number.into(), reason });
        };
        let mut not_invoices = 0;
        self.invoices.retain_mut(|invoice| {
            let (sort, number) = (invoice.sort, &invoice.number);
            if sort == Sort::Sale && !invoice.lines.iter().any(is_sold) {
                invoice.lines.iter().for_each(|l| report(number, l.row, Reason::NotAnInvoice));
                not_invoices += 1;
                return false;
            }
            invoice.lines.retain(|line| {
                let fits = fits(sort, line);
                if !fits {
                    report(number, line.row, Reason::Sign);
                }
                fits
            });
            not_invoices += u64::from(invoice.lines.is_empty());
            !invoice.lines.is_empty()
        });
        self.not_invoices = not_invoices;
        self.reported.sort_by_key(|reported| reported.row);
    }

    /// Reads the pairs of credits and originals.
    pub fn read_pairs(&mut self, reader: impl Read, name: &str) -> Result<(), RetailError> {
        let days: HashMap<String, Day> =
            self.invoices.iter().map(|i| (i.number.clone(), i.date)).collect();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (at, invoice) in self.invoices.iter().enumerate() {
            if invoice.sort == Sort::Credit {
                places.insert(invoice.number.clone(), at);
            }
        }
        let lines = self.lines_by_row();
        let mut taken: BTreeMap<(usize, usize), BTreeMap<u32, i128>> = BTreeMap::new();
        let mut reader = csv::Reader::from_reader(reader);
        for record in reader.records() {
            let record = record.map_err(|error| form(name, &error.to_string()))?;
            match self.pair(&record, &lines) {
                Some((credit, original, line, net)) => {
                    *taken.entry((credit, original)).or_default().entry(line).or_default() += net;
                }
                None => self.pairs_unfit += 1,
            }
            let (Some(credit), Some(original)) = (record.get(0), record.get(1)) else {
                return Err(form(name, "a row has fewer than two columns"));
            };
            let Some(at) = places.get(credit.trim()) else { continue };
            let (credit, original) = (&mut self.invoices[*at], original.trim());
            if credit.originals.iter().any(|(held, _)| held == original) {
                continue;
            }
            if credit.originals.len() == ORIGINALS_MAX {
                credit.originals_left_out += 1;
                continue;
            }
            credit.originals.push((original.into(), days.get(original).copied()));
        }
        let reversal = |((credit, original), lines): ((usize, usize), BTreeMap<u32, i128>)| {
            let net = |number: u32| self.invoices[original].lines[number as usize - 1].net;
            let lines = lines.into_iter().map(|(number, n)| (number, net(number), n)).collect();
            Reversal { credit, original, lines }
        };
        self.reversals = taken.into_iter().map(reversal).collect();
        Ok(())
    }

    /// Invoice and place in it of the line of each row.
    fn lines_by_row(&self) -> HashMap<u64, (usize, usize)> {
        let of = |(at, invoice): (usize, &Invoice)| {
            let rows: Vec<u64> = invoice.lines.iter().map(|line| line.row).collect();
            (0..).zip(rows).map(move |(line, row)| (row, (at, line)))
        };
        self.invoices.iter().enumerate().flat_map(of).collect()
    }

    /// Credit, original, line of the original from 1, and what is credited of it; `None` where the
    /// rows are not lines of a credit and an earlier sale. Rows of pairs count from 0.
    fn pair(
        &self,
        record: &csv::StringRecord,
        lines: &HashMap<u64, (usize, usize)>,
    ) -> Option<(usize, usize, u32, i128)> {
        let number = |at: usize| record.get(at)?.trim().parse::<u64>().ok();
        let (credit, _) = *lines.get(&number(2)?.checked_add(1)?)?;
        let (original, place) = *lines.get(&number(3)?.checked_add(1)?)?;
        let named = |at: usize, column: usize| self.invoices[at].number == record[column].trim();
        let sorts = (self.invoices[credit].sort, self.invoices[original].sort);
        if !named(credit, 0) || !named(original, 1) || sorts != (Sort::Credit, Sort::Sale) {
            return None;
        }
        let line = &self.invoices[original].lines[place];
        let pieces = i128::from(number(4)?);
        let product = pieces.checked_mul(line.price.0)?.checked_mul(100)?;
        let net = round_div(product, 10i128.pow(u32::from(line.price.1)));
        let fits = original < credit && pieces <= line.quantity && net > 0;
        fits.then_some((credit, original, place as u32 + 1, net))
    }
}

fn form(path: &str, what: &str) -> RetailError {
    RetailError::Form { path: path.into(), what: what.into() }
}

fn open(path: &Path) -> Result<Box<dyn Read>, RetailError> {
    let file = std::fs::File::open(path)
        .map_err(|source| RetailError::Io { path: path.display().to_string(), source })?;
    let file = std::io::BufReader::with_capacity(1 << 16, file);
    Ok(match path.extension().is_some_and(|extension| extension == "gz") {
        true => Box::new(flate2::read::MultiGzDecoder::new(file)),
        false => Box::new(file),
    })
}

fn sort_of(number: &str) -> Sort {
    match number.as_bytes().first() {
        Some(b'C') => Sort::Credit,
        Some(b'A') => Sort::Adjustment,
        _ => Sort::Sale,
    }
}

fn is_sold(line: &Line) -> bool {
    line.quantity > 0 && line.price.0 > 0
}

/// Whether a line may stand in an invoice of this sort. Free items of a sale may.
fn fits(sort: Sort, line: &Line) -> bool {
    match sort {
        Sort::Sale => line.quantity > 0 && line.price.0 >= 0,
        Sort::Credit => line.quantity < 0 && line.price.0 >= 0,
        Sort::Adjustment => true,
    }
}

type Moment = (Day, i64);

fn read_line(row: u64, record: &csv::StringRecord) -> Option<(Line, Moment)> {
    let number = record[0].trim();
    // The suffix of a repetition must fit as well.
    if number.is_empty() || number.len() > 48 || !number.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let (quantity, 0) = value::parse_decimal(record[3].trim())? else { return None };
    let price = value::parse_decimal(record[5].trim())?;
    if quantity == 0 || quantity.abs() > 1_000_000_000 || price.1 > 8 {
        return None;
    }
    let product = quantity.checked_mul(price.0)?.checked_mul(100)?;
    let plain = |at: usize, limit| {
        let text = record[at].trim();
        text.len() <= limit && !text.chars().any(char::is_control)
    };
    if product.abs() >= 10i128.pow(24) || !plain(1, 64) || !plain(2, 500) || !plain(7, 100) {
        return None;
    }
    let customer = record[6].trim();
    if customer.len() > 32 || !customer.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let line = Line {
        row,
        stock: record[1].trim().into(),
        description: record[2].trim().into(),
        quantity,
        price,
        net: round_div(product, 10i128.pow(u32::from(price.1))),
    };
    Some((line, moment(record[4].trim())?))
}

/// Reads `2010-12-01 08:26:00`.
fn moment(text: &str) -> Option<Moment> {
    let (day, time) = text.split_once(' ')?;
    let mut day = day.splitn(3, '-').map(|part| part.parse::<u32>().ok());
    let mut time = time.splitn(3, ':').map(|part| part.parse::<u32>().ok());
    let mut next = || day.next().flatten();
    let date = (next()?, next()?, next()?);
    let mut next = || time.next().flatten();
    let (hour, minute, second) = (next()?, next()?, next()?);
    if date.0 > 9_999 || date.1 > 12 || date.2 > 31 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    value::date_of(&value::date(date.0, date.1, date.2)).ok()?;
    let seconds = i64::from(hour * 3_600 + minute * 60 + second);
    let days = value::days_since_1970(date.0, date.1, date.2);
    Some((date, (days * 86_400 + seconds) * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    fn read(rows: &str) -> Retail {
        Retail::read_rows(format!("{HEAD}{rows}").as_bytes(), "test").unwrap()
    }

    #[test]
    fn rows_become_invoices_and_the_rest_is_reported() {
        let retail = read(
            "1,85123A,\"A, B\",3,2010-12-01 08:26:00,0.335,17850,United Kingdom\n\
             2,M,,-5,2010-12-01 08:27:00,0,,United Kingdom\n\
             1,22,FREE,1,2010-12-01 08:28:00,0,17850,United Kingdom\n\
             C3,85123A,X,-1,2010-12-02 08:28:00,2.005,17850,United Kingdom\n\
             C3,85123A,X,1,2010-12-02 08:28:00,2,17850,United Kingdom\n\
             A4,B,Adjust,1,2010-12-02 08:28:00,-11.00,,United Kingdom\n\
             5,X,Y,1,2010-02-30 08:28:00,1,,United Kingdom\n\
             6,X,Y,0,2010-02-03 08:28:00,1,,United Kingdom\n",
        );
        let numbers: Vec<&str> = retail.invoices.iter().map(|i| i.number.as_str()).collect();
        assert_eq!(numbers, ["1", "C3", "A4"]);
        let nets = |at: usize| retail.invoices[at].lines.iter().map(|l| l.net).collect::<Vec<_>>();
        assert_eq!((nets(0), nets(1), nets(2)), (vec![101, 0], vec![-201], vec![-1_100]));
        let reported: Vec<(u64, Reason)> =
            retail.reported.iter().map(|r| (r.row, r.reason)).collect();
        let expected = [
            (2, Reason::NotAnInvoice),
            (5, Reason::Sign),
            (7, Reason::Unreadable),
            (8, Reason::Unreadable),
        ];
        assert_eq!(reported, expected);
        assert_eq!(retail.invoices[0].at_ms, 1_291_191_960_000);
        assert_eq!(retail.not_invoices, 1);
    }

    #[test]
    fn a_credit_names_each_original_once() {
        let mut retail = read(
            "1,85,A,3,2010-12-01 08:26:00,1,17850,United Kingdom\n\
             C2,85,A,-3,2010-12-03 08:26:00,1,17850,United Kingdom\n",
        );
        let many: String = (0..70).map(|i| format!("C2,N{i},1,1,1\n")).collect();
        let pairs =
            format!("credit_invoice,original_invoice,a,b,c\nC2,1,1,0,2\nC2,1,1,0,1\n{many}");
        retail.read_pairs(pairs.as_bytes(), "pairs").unwrap();
        let credit = &retail.invoices[1];
        assert_eq!(credit.originals[0], ("1".into(), Some((2010, 12, 1))));
        assert_eq!((credit.originals.len(), credit.originals_left_out), (64, 7));
        let reversal = Reversal { credit: 1, original: 0, lines: vec![(1, 300, 300)] };
        assert_eq!((&retail.reversals[..], retail.pairs_unfit), (&[reversal][..], 70));
    }

    #[test]
    fn another_file_is_refused() {
        assert!(Retail::read_rows(&b"a,b\n1,2\n"[..], "x").is_err());
        assert!(Retail::read(Path::new("/nonexistent.csv"), None).is_err());
        let uneven = format!("{HEAD}1,2\n");
        assert!(Retail::read_rows(uneven.as_bytes(), "x").is_err());
    }
}
