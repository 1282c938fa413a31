//! The document and the code say the same.

use super::*;
use crate::change::Fact;

const DOCUMENT: &str = include_str!("../../../../../docs/changeset-format.md");

/// The bytes of the worked example: the hexadecimal pairs before the first double space of each line.
fn documented() -> Vec<u8> {
    let example = DOCUMENT.split("## Worked example").nth(1).expect("the document has the example");
    let listing = example.split("```").nth(1).expect("the example has a listing");
    let pairs = listing.lines().skip(1).flat_map(|line| line.split("  ").next().unwrap_or("").split(' '));
    pairs
        .filter(|pair| !pair.is_empty())
        .map(|pair| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{pair:?} is not a byte")))
        .collect()
}

#[test]
fn the_documented_bytes_are_what_the_writer_writes() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    assert_eq!(hex(&documented()), hex(&sample(false)));
}

#[test]
fn the_documented_bytes_are_read_as_the_document_says() {
    let bytes = documented();
    let changeset = Changeset::open(&bytes, &Limits::default()).unwrap();
    assert_eq!(changeset.tie_break(), TieBreak::Site);
    assert_eq!(changeset.sites().len(), 1);
    assert_eq!(changeset.tables()[0].name, "todo");
    assert_eq!(changeset.tables()[0].columns, ["title", "done"]);
    let claims: Vec<_> = changeset.claims().iter().flat_map(|(_, ranges)| ranges.iter()).collect();
    assert_eq!(claims, [(1, 300)]);
    assert_eq!(read(&bytes).unwrap(), sample_runs(0, 0));
}

#[test]
fn the_documented_bytes_are_these_changes() {
    let listed: Vec<String> = Changeset::changes(&documented())
        .unwrap()
        .iter()
        .map(|change| {
            let fact = match &change.fact {
                Fact::Row => "row".to_owned(),
                Fact::Cell { column, col_version, value } => format!("{column} v{col_version} {value:?}"),
            };
            format!(
                "{:02x?} cl{} {fact} @{}.{}",
                change.pk, change.cl, change.stamp.version, change.stamp.seq
            )
        })
        .collect();
    let expected = [
        "[01, 09, 01] cl1 title v1 Text([109, 105, 108, 107]) @300.0",
        "[01, 09, 01] cl1 done v1 Integer(0) @300.1",
        "[01, 09, 02] cl1 title v1 Text([116, 101, 97]) @300.2",
        "[01, 09, 02] cl1 done v1 Integer(-1000) @300.3",
        "[01, 0b, 01, 6b] cl1 done v1 Real(0.5) @7.5",
        "[01, 41, ff, ff, ff, ff, ff, ff, ff, fb] cl2 row @9.0",
        "[01, 41, ff, ff, ff, ff, ff, ff, ff, fc] cl2 row @10.0",
        "[01, 41, ff, ff, ff, ff, ff, ff, ff, fd] cl2 row @11.0",
    ];
    assert_eq!(listed, expected);
}

#[test]
fn every_value_form_has_the_documented_bytes() {
    let form = |value: ValueRef<'_>| {
        let mut bytes = Vec::new();
        crate::changeset::value::push(&mut bytes, value);
        bytes
    };
    assert_eq!(form(ValueRef::Null), [0x00]);
    assert_eq!(form(ValueRef::Integer(0)), [0x20]);
    assert_eq!(form(ValueRef::Integer(-16)), [0x10]);
    assert_eq!(form(ValueRef::Integer(95)), [0x7f]);
    assert_eq!(form(ValueRef::Integer(-17)), [0x01, 33]);
    assert_eq!(form(ValueRef::Integer(96)), [0x01, 0xc0, 0x01]);
    assert_eq!(form(ValueRef::Integer(i64::MIN)), [1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    assert_eq!(form(ValueRef::Real(1.0)), [0x02, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    assert_eq!(form(ValueRef::Real(f64::NAN)), [0x00]);
    assert_eq!(form(ValueRef::Text(b"")), [0x80]);
    assert_eq!(form(ValueRef::Text(b"ab")), [0x82, b'a', b'b']);
    assert_eq!(form(ValueRef::Text(&[b'x'; 128]))[..4], [0x03, 0x80, 0x01, b'x']);
    assert_eq!(form(ValueRef::Blob(b"")), [0x04, 0]);
    assert_eq!(form(ValueRef::Blob(&[7; 16]))[..2], [0x05, 7]);
    assert_eq!(form(ValueRef::Blob(&[7; 17]))[..3], [0x04, 17, 7]);
}
