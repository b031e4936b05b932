//! The values that tables are filled with and conditions compare with, and how the engine's SQL writes them.
//!
//! A [`Domain`] is the values that one type of column of a source can hold; drawing from it prefers the ends, the
//! special ones and those that collations and parsers take for others.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::source::nasty_texts;

/// What a column is to the engine: which literals it is compared with, which functions take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// True or false.
    Bool,
    /// An integer of any width.
    Int,
    /// A decimal.
    Decimal,
    /// A single float.
    Real,
    /// A double float.
    Double,
    /// A double whose values have exact sums in any order, so that sums and averages are compared.
    Tame,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// A day.
    Date,
    /// A moment without a zone.
    Timestamp,
    /// A moment with one.
    Instant,
    /// Something that the engine neither compares nor computes with here.
    Opaque,
}

impl Class {
    /// Every class, in the order of reports.
    pub(super) const ALL: [Self; 12] = [
        Self::Bool,
        Self::Int,
        Self::Decimal,
        Self::Real,
        Self::Double,
        Self::Tame,
        Self::Text,
        Self::Bytes,
        Self::Date,
        Self::Timestamp,
        Self::Instant,
        Self::Opaque,
    ];

    /// The beginning of the names of such columns, by which a remote statement shows what it tests.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Bool => "bool_",
            Self::Int => "int_",
            Self::Decimal => "dec_",
            Self::Real => "real_",
            Self::Double => "double_",
            Self::Tame => "tame_",
            Self::Text => "text_",
            Self::Bytes => "bytes_",
            Self::Date => "date_",
            Self::Timestamp => "time_",
            Self::Instant => "instant_",
            Self::Opaque => "opaque_",
        }
    }

    /// Whether two values can be added.
    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Decimal | Self::Real | Self::Double | Self::Tame)
    }
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Datum {
    /// NULL.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A decimal, as it is written.
    Decimal(String),
    /// A float.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A day as `YYYY-MM-DD`.
    Date(String),
    /// A moment as `YYYY-MM-DD HH:MM:SS.ffffff`, in UTC where it has a zone.
    Moment(String),
    /// A literal of the source's SQL for a value that the engine cannot write.
    Own(&'static str),
}

impl Datum {
    /// Returns the value in the engine's SQL, or `None` where it has no literal.
    pub(super) fn engine_literal(&self, class: Class) -> Option<String> {
        Some(match self {
            Self::Null => "NULL".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Decimal(text) => text.clone(),
            Self::Float(value) => match class {
                Class::Real => format!("CAST('{value:?}' AS REAL)"),
                _ if value.is_finite() && *value != 0.0 => format!("{value:e}"),
                _ => format!("CAST('{value:?}' AS DOUBLE)"),
            },
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Self::Bytes(bytes) => format!("X'{}'", hexadecimal(bytes)),
            Self::Date(text) => format!("DATE '{text}'"),
            Self::Moment(text) => match class {
                Class::Instant => format!("CAST('{text}Z' AS TIMESTAMP(6) WITH TIME ZONE)"),
                _ => format!("CAST('{text}' AS TIMESTAMP(6))"),
            },
            Self::Own(_) => return None,
        })
    }
}

/// Returns two lower-case digits for each byte.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The letters that a column of text can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    /// Any but NUL.
    Any,
    /// Those of the first plane.
    FirstPlane,
    /// ASCII.
    Ascii,
}

/// The values that a column can hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Domain {
    /// True and false.
    Bools,
    /// Integers from the first to the second.
    Ints(i128, i128),
    /// A few small integers, which several tables share.
    Keys,
    /// Decimals of so many digits, of which so many are behind the point.
    Decimals(usize, usize),
    /// Finite single floats.
    Reals(Floats),
    /// Double floats.
    Doubles(Floats),
    /// Quarters below a million.
    Quarters,
    /// Text of at most so many letters.
    Texts(Letters, usize),
    /// One of these texts.
    Words(&'static [&'static str]),
    /// Bytes.
    Bytes,
    /// Days of these years.
    Dates(i32, i32),
    /// Moments of these years.
    Moments(i32, i32),
    /// Only what the source itself can write.
    Own(&'static [&'static str]),
}

/// Which floats a source can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Floats {
    /// All.
    All,
    /// All but NaN.
    NoNan,
    /// All but NaN, and zero has no sign.
    Numbers,
    /// Neither NaN nor infinity.
    Finite,
}

/// How often a value is NULL.
const NULL_SHARE: f64 = 0.12;

impl Domain {
    /// Returns a value, NULL among them.
    pub(super) fn draw(self, rng: &mut StdRng) -> Datum {
        if rng.random_bool(NULL_SHARE) { Datum::Null } else { self.draw_value(rng) }
    }

    /// Returns a value that is not NULL.
    pub(super) fn draw_value(self, rng: &mut StdRng) -> Datum {
        match self {
            Self::Bools => Datum::Bool(rng.random()),
            Self::Ints(min, max) => Datum::Int(int(rng, min, max)),
            Self::Keys => Datum::Int(rng.random_range(0..8)),
            Self::Decimals(digits, scale) => Datum::Decimal(decimal(rng, digits, scale)),
            Self::Reals(floats) => Datum::Float(f64::from(single(rng, floats))),
            Self::Doubles(floats) => Datum::Float(double(rng, floats)),
            Self::Quarters => {
                Datum::Float(f64::from(rng.random_range(-4_000_000..4_000_000)) / 4.0)
            }
            Self::Texts(letters, n_letters_max) => Datum::Text(text(rng, letters, n_letters_max)),
            Self::Words(words) => Datum::Text(pick(rng, words).to_owned()),
            Self::Bytes => Datum::Bytes(bytes(rng)),
            Self::Dates(from, to) => Datum::Date(day(rng, from, to)),
            Self::Moments(from, to) => {
                let clocks =
                    ["00:00:00.000000", "23:59:59.999999", "12:30:00.500000", "00:00:00.000001"];
                Datum::Moment(format!("{} {}", day(rng, from, to), pick(rng, &clocks)))
            }
            Self::Own(literals) => Datum::Own(pick(rng, literals)),
        }
    }
}

/// Returns one of a list that is not empty.
pub(super) fn pick<'a, T: ?Sized>(rng: &mut StdRng, of: &[&'a T]) -> &'a T {
    of.choose(rng).expect("the list is not empty")
}

fn int(rng: &mut StdRng, min: i128, max: i128) -> i128 {
    let near = |value: i128| value.clamp(min, max);
    match rng.random_range(0..10) {
        0 => min,
        1 => max,
        2 => near(min + 1),
        3 => near(max - 1),
        4 => near(0),
        5 => near(-1),
        6 => near(rng.random_range(-1_000_000..1_000_000)),
        _ => near(rng.random_range(-10..10)),
    }
}

fn decimal(rng: &mut StdRng, digits: usize, scale: usize) -> String {
    let sign = pick(rng, &["", "-"]);
    let n_digits = match rng.random_range(0..6) {
        0 => digits,
        1 => scale,
        _ => (scale + 2).min(digits),
    };
    let nines = rng.random_bool(0.3);
    let mut written: String = (0..n_digits)
        .map(|_| if nines { '9' } else { char::from(b'0' + rng.random_range(0..10_u8)) })
        .collect();
    while written.len() <= scale {
        written.insert(0, '0');
    }
    let (whole, fraction) = written.split_at(written.len() - scale);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    match scale {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    }
}

fn double(rng: &mut StdRng, floats: Floats) -> f64 {
    let special = [
        0.0,
        1.0,
        -1.0,
        0.1,
        0.3,
        1e-300,
        -1e-300,
        5e-324,
        f64::MAX,
        f64::MIN,
        9_007_199_254_740_993.0,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    let value = match rng.random_range(0..3) {
        0 => f64::from(rng.random_range(-8..8_i32)) / 2.0,
        _ => *special.choose(rng).expect("the list is not empty"),
    };
    within(value, floats)
}

fn single(rng: &mut StdRng, floats: Floats) -> f32 {
    let special = [
        0.0,
        1.0,
        -1.0,
        0.1,
        1e-30,
        f32::MAX,
        f32::MIN,
        16_777_216.0,
        -0.0,
        f32::INFINITY,
        f32::NAN,
    ];
    let value: f32 = match rng.random_range(0..3) {
        0 => rng.random_range(-8..8_i8).into(),
        _ => *special.choose(rng).expect("the list is not empty"),
    };
    within(value.into(), floats) as f32
}

/// Returns the value if the source can hold it, something near otherwise.
fn within(value: f64, floats: Floats) -> f64 {
    match floats {
        Floats::All => value,
        Floats::NoNan | Floats::Numbers if value.is_nan() => 0.5,
        Floats::Numbers if value == 0.0 => 0.0,
        Floats::NoNan | Floats::Numbers => value,
        Floats::Finite if !value.is_finite() => 0.5,
        Floats::Finite => value,
    }
}

/// Words of which others differ only to some: in case, accents, padding, normal form.
const WORDS: [&str; 8] = ["apple", "zebra", "éa", "ß", "a", "", "ä", "aa"];

fn text(rng: &mut StdRng, letters: Letters, n_letters_max: usize) -> String {
    let drawn = match rng.random_range(0..4) {
        0 => nasty_texts().choose(rng).expect("there are some").clone(),
        1 => {
            let alphabet: Vec<char> = "aAbBäÄé%_\\'\" 🦀ıİ\u{301}\u{308}".chars().collect();
            let n_letters = rng.random_range(0..4);
            (0..n_letters).map(|_| *alphabet.choose(rng).expect("there are some")).collect()
        }
        _ => {
            let word = pick(rng, &WORDS);
            match rng.random_range(0..6) {
                0 => word.to_uppercase(),
                1 => format!("{word} "),
                2 => format!(" {word}"),
                3 => word.replace('ä', "a\u{308}"),
                _ => word.to_owned(),
            }
        }
    };
    let fits = |letter: &char| match letters {
        Letters::Any => true,
        Letters::FirstPlane => *letter <= '\u{ffff}',
        Letters::Ascii => letter.is_ascii(),
    };
    drawn.chars().filter(fits).take(n_letters_max).collect()
}

fn bytes(rng: &mut StdRng) -> Vec<u8> {
    let known: [&[u8]; 7] = [b"", b"\0", b"a", b"A", b"a ", b"\xff\xfe", b"a\0"];
    pick(rng, &known).to_vec()
}

fn day(rng: &mut StdRng, from: i32, to: i32) -> String {
    let year = match rng.random_range(0..6) {
        0 => from,
        1 => to,
        2 => 1970.clamp(from, to),
        _ => rng.random_range(1999..2003).clamp(from, to),
    };
    let day = pick(rng, &["01-01", "12-31", "02-28", "06-15", "01-02"]);
    format!("{year:04}-{day}")
}
