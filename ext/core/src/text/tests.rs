//! The laws of texts.

use super::document::{Document, UpdateError};
use super::part::{Block, Content, Id, Part};
use super::*;
use crate::ids::SiteId;
use proptest::prelude::*;

const SITES: [SiteId; 3] = [SiteId([1; 16]), SiteId([2; 16]), SiteId([3; 16])];

/// A site's own view of one text.
#[derive(Clone, Default)]
struct Copy {
    cells: Vec<TextCell>,
}

impl Copy {
    fn text(&self) -> String {
        match show(None, &self.cells, 1) {
            Some(Value::Text(text)) => String::from_utf8(text).unwrap(),
            _ => String::new(),
        }
    }

    /// What `site` writes. Cells are overwritten as a newer one of the same site is.
    fn set(&mut self, site: SiteId, new: &str) {
        let own = |level: usize| {
            let is_it = |cell: &&TextCell| cell.0 == site && cell.1 == level;
            self.cells.iter().find(is_it).map(|(.., value)| value.clone())
        };
        let written = super::set(None, &self.cells, 1, &site, &Value::text(new), own).unwrap();
        for (level, value) in written {
            self.put((site, level, value));
        }
        assert_eq!(self.text(), new);
    }

    fn put(&mut self, cell: TextCell) {
        self.cells.retain(|known| (known.0, known.1) != (cell.0, cell.1));
        self.cells.push(cell);
    }

    /// Takes the cells of a site from where it writes.
    fn take(&mut self, from: &Copy, site: SiteId) {
        for cell in from.cells.iter().filter(|cell| cell.0 == site) {
            self.put(cell.clone());
        }
    }
}

/// One keystroke, or a few: delete so many characters somewhere and type some.
fn edited(text: &str, at: usize, deleted: usize, typed: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = at % (chars.len() + 1);
    let end = (at + deleted).min(chars.len());
    chars[..at].iter().copied().chain(typed.chars()).chain(chars[end..].iter().copied()).collect()
}

#[test]
fn what_two_sites_type_at_once_is_all_there() {
    let mut a = Copy::default();
    a.set(SITES[0], "the cat");
    let mut b = a.clone();
    a.set(SITES[0], "the black cat");
    b.set(SITES[1], "the cat sat");
    a.take(&b, SITES[1]);
    b.take(&a, SITES[0]);
    assert_eq!(a.text(), "the black cat sat");
    assert_eq!(b.text(), a.text());
}

#[test]
fn a_text_that_was_typed_at_once_is_its_cell() {
    let mut a = Copy::default();
    a.set(SITES[0], "at once");
    assert_eq!(a.cells, [(SITES[0], 0, Value::text("at once"))]);
    assert!(is_shown(None, &a.cells));
}

#[test]
fn sites_that_begin_with_the_same_register_share_its_characters() {
    let base = Value::text("hello");
    let set = |site: SiteId, new: &str| {
        super::set(Some(&base), &[], 1, &site, &Value::text(new), |_| None).unwrap()
    };
    let cells: Vec<TextCell> = [(SITES[0], set(SITES[0], "hello!")), (SITES[1], set(SITES[1], "oh, hello"))]
        .into_iter()
        .flat_map(|(site, cells)| cells.into_iter().map(move |(level, value)| (site, level, value)))
        .collect();
    assert_eq!(show(Some(&base), &cells, 1), Some(Value::text("oh, hello!")));
    assert_eq!(show(None, &cells, 1), Some(Value::text("oh, hello!")), "they hold it themselves");
}

#[test]
fn a_part_goes_up_the_levels_and_nothing_is_lost() {
    let mut a = Copy::default();
    let mut text = String::new();
    for turn in 0..400usize {
        text = edited(&text, turn * 7_919, turn % 3 % 2, ["a", "some words", "é", "😀"][turn % 4]);
        a.set(SITES[0], &text);
    }
    assert!(a.cells.iter().any(|(_, level, _)| *level >= 2));
    for (_, level, value) in &a.cells {
        let Value::Blob(bytes) = value else { panic!("{value:?}") };
        assert!(LEVEL_BYTES.get(*level).is_none_or(|most| bytes.len() <= *most));
        assert_eq!(Part::unpack(bytes).unwrap().pack(), *bytes);
    }
}

#[test]
fn another_incarnation_has_other_characters() {
    assert_ne!(client_of(&SITES[0], 1, 0), client_of(&SITES[0], 3, 0));
    assert_ne!(client_of(&SITES[0], 1, 0), client_of(&SITES[1], 1, 0));
    assert!(client_of_base("x") <= part::CLIENT_MAX && client_of(&SITES[2], 5, 3) < BASES);
}

#[test]
fn nobody_types_under_another_sites_number() {
    let mut a = Copy::default();
    a.set(SITES[0], "mine");
    let mut forged = a.clone();
    let client = client_of(&SITES[0], 1, 0);
    let blocks =
        [(client, vec![Block::text(0, "thine"), Block { clock: 500, ..Block::text(0, "later") }])].into();
    forged.put((SITES[1], 0, Value::Blob(Part { blocks, ..Part::default() }.pack())));
    assert_eq!(forged.text(), "mine");
    forged.set(SITES[0], "mine!");
}

#[test]
fn what_builds_on_what_is_not_here_waits_and_its_number_is_not_used_again() {
    let [mut a, mut b] = [Copy::default(), Copy::default()];
    a.set(SITES[0], "ab");
    b.take(&a, SITES[0]);
    b.set(SITES[1], "aXb");
    // A restored copy of the second site, which has its own cells before those they build on.
    let mut restored = Copy::default();
    restored.take(&b, SITES[1]);
    assert_eq!(restored.text(), "");
    restored.set(SITES[1], "new");
    restored.take(&a, SITES[0]);
    let text = restored.text();
    assert!(text.contains("aXb") && text.contains("new"), "{text}");
}

#[test]
fn an_editor_reads_and_writes_the_text_under_its_own_number() {
    use yrs::updates::decoder::Decode;
    use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update};
    let mut a = Copy::default();
    a.set(SITES[0], "hello wörld");
    let mut document = Document::new(None, &a.cells, 1, Some(&SITES[0]));
    let editor = Doc::with_client_id(77);
    let text = editor.get_or_insert_text("text");
    editor.transact_mut().apply_update(Update::decode_v1(&document.state(None).unwrap()).unwrap()).unwrap();
    let update = {
        let mut txn = editor.transact_mut();
        text.insert(&mut txn, 0, "oh, ");
        txn.encode_update_v1()
    };
    let cursor = document.cursor(6).unwrap();
    let part = document.apply(&update).unwrap();
    assert_eq!(document.text(), "oh, hello wörld");
    assert_eq!(document.position(&cursor), Some(10));
    let cursor = document.cursor(15).unwrap();
    assert_eq!(document.position(&cursor), Some(15));
    assert_eq!(document.cursor(16), None);
    assert_eq!(document.apply(&update).unwrap(), Part::default(), "once is enough");
    let own = a.cells[0].2.clone();
    for (level, value) in write(&SITES[0], 1, part, |at| Ok::<_, ()>((at == 0).then(|| own.clone()))).unwrap()
    {
        a.put((SITES[0], level, value));
    }
    a.set(SITES[0], "oh, hello wörld!");
    let mut document = Document::new(None, &a.cells, 1, None);
    let vector = yrs::updates::encoder::Encode::encode_v1(&editor.transact().state_vector());
    let news = document.state(Some(&vector)).unwrap();
    editor.transact_mut().apply_update(Update::decode_v1(&news).unwrap()).unwrap();
    assert_eq!(text.get_string(&editor.transact()), "oh, hello wörld!");
    assert!(news.len() < document.state(None).unwrap().len());
    let whole = editor.transact().encode_state_as_update_v1(&StateVector::default());
    assert_eq!(Document::new(None, &a.cells, 1, None).apply(&whole).unwrap(), Part::default());
}

#[test]
fn an_update_that_cannot_be_is_refused_with_its_reason() {
    let mut document = Document::new(None, &[(SITES[0], 0, Value::text("abc"))], 1, Some(&SITES[0]));
    let update = |client: u64, block: Block| {
        Part { blocks: [(client, vec![block])].into(), ..Part::default() }.encode()
    };
    let far = Block { left: Some(Id { client: 9, clock: 7 }), ..Block::text(0, "x") };
    assert_eq!(document.apply(&update(5, far)), Err(UpdateError::Missing));
    assert_eq!(
        document.apply(&update(5, Block { clock: 3, ..Block::text(0, "x") })),
        Err(UpdateError::Missing)
    );
    assert_eq!(
        document.apply(&update(client_of(&SITES[1], 1, 0), Block::text(0, "x"))),
        Err(UpdateError::Client)
    );
    assert!(matches!(document.apply(b"\x01"), Err(UpdateError::Part(_))));
    let deletes = Part {
        deletes: [(9, [(0, 3)].into_iter().fold(Default::default(), ranges))].into(),
        ..Part::default()
    };
    assert_eq!(document.apply(&deletes.encode()), Err(UpdateError::Missing));
    assert_eq!(document.text(), "abc");
}

fn ranges(mut all: part::Ranges, (from, to): (u32, u32)) -> part::Ranges {
    all.insert(from, to);
    all
}

#[test]
fn deleted_characters_are_forgotten() {
    let mut part = typed_at_once(7, "abcdef");
    part.deletes.insert(7, [(1, 3), (4, 9)].into_iter().fold(Default::default(), ranges));
    part.compact();
    let blocks = &part.blocks[&7];
    assert_eq!(blocks.iter().map(|block| block.len).collect::<Vec<_>>(), [1, 2, 1, 2]);
    assert_eq!(blocks[1].content, Content::Deleted(2));
    assert_eq!(part.deletes[&7].iter().collect::<Vec<_>>(), [(6, 9)]);
    assert_eq!(show(None, &[(SITES[0], 0, Value::Blob(part.pack()))], 1), Some(Value::text("ad")));
}

/// A history: who writes, where, what, and who takes whose cells after it.
fn history() -> impl Strategy<Value = Vec<(usize, usize, usize, String, usize, usize)>> {
    prop::collection::vec((0..3usize, 0..200usize, 0..4usize, "[a-cé😀]{0,6}", 0..3usize, 0..3usize), 1..40)
}

/// Bytes that look like parts, and whatever else.
fn any_cell() -> impl Strategy<Value = Value> {
    let id = prop::option::of((0..4u64, 0..12u32).prop_map(|(client, clock)| Id { client, clock }));
    let block = (0..12u32, "[ab😀]{1,4}", any::<bool>(), id.clone(), id).prop_map(
        |(clock, text, gone, left, right)| {
            let block = Block { clock, left, right, ..Block::text(0, &text) };
            let content = if gone { Content::Deleted(block.len) } else { block.content.clone() };
            Block { content, ..block }
        },
    );
    let blocks = prop::collection::vec(block, 0..5).prop_map(|mut blocks| {
        blocks.sort_by_key(|block| block.clock);
        blocks.dedup_by(|next, known| next.clock < known.end());
        blocks
    });
    let deletes = prop::collection::vec((0..12u32, 1..5u32), 0..3).prop_map(|all| {
        all.into_iter().map(|(from, len)| (from, from + len)).fold(Default::default(), ranges)
    });
    let parts = (
        prop::collection::btree_map(0..4u64, blocks, 0..4),
        prop::collection::btree_map(0..4u64, deletes, 0..3),
    )
        .prop_map(|(mut blocks, mut deletes)| {
            blocks.retain(|_, blocks: &mut Vec<Block>| !blocks.is_empty());
            deletes.retain(|_, ranges: &mut part::Ranges| !ranges.is_empty());
            Value::Blob(Part { blocks, deletes }.pack())
        });
    prop_oneof![
        6 => parts,
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Blob),
        1 => "[a-c]{0,5}".prop_map(|text| Value::text(&text)),
        1 => any::<i64>().prop_map(Value::Integer),
    ]
}

/// Edits of a document that stays at hand, beside the library's own of the same text: places and lengths in characters.
fn type_beside_the_library(start: &[(usize, usize, String)], edits: &[(usize, usize, String)]) {
    use yrs::updates::decoder::Decode;
    use yrs::{GetString, ReadTxn, Text, Transact};

    // What there is, was typed by two sites, with deletions in between.
    let mut copy = Copy::default();
    let mut text = String::new();
    for (turn, (at, deleted, typed)) in start.iter().enumerate() {
        text = edited(&text, *at, *deleted, typed);
        copy.set(SITES[turn % 2], &text);
    }
    let mut document = Document::new(None, &copy.cells, 1, Some(&SITES[2]));
    let client = yrs::ClientID::new(client_of(&SITES[2], 1, 0));
    let mut options = yrs::Options::with_guid_and_client_id("".into(), client);
    options.offset_kind = yrs::OffsetKind::Utf16;
    let twin = yrs::Doc::with_options(options);
    let root = twin.get_or_insert_text(part::ROOT);
    let state = document.state(None).unwrap();
    twin.transact_mut().apply_update(yrs::Update::decode_v1(&state).unwrap()).unwrap();
    let mut level = None;
    for (step, (at, deleted, typed)) in edits.iter().enumerate() {
        let chars: Vec<char> = text.chars().collect();
        let start = at % (chars.len() + 1);
        let end = (start + deleted).min(chars.len());
        let byte = |at: usize| chars[..at].iter().map(|c| c.len_utf8()).sum::<usize>();
        let unit = |at: usize| chars[..at].iter().map(|c| c.len_utf16()).sum::<usize>() as u32;
        let edit = diff::Edit { at: byte(start), deleted: byte(end) - byte(start), inserted: typed };
        let part = document.edit_at(&[edit]).unwrap();
        let update = {
            let mut txn = twin.transact_mut();
            root.remove_range(&mut txn, unit(start), unit(end) - unit(start));
            root.insert(&mut txn, unit(start), typed);
            txn.encode_update_v1()
        };
        assert_eq!(part, Part::decode(&update).unwrap(), "edit {step}");
        text = edited(&text, *at, *deleted, typed);
        assert_eq!(document.text(), text);
        let mut cell = level.map_or_else(Part::default, |value| part_of(&SITES[2], 1, &value));
        cell.add(part);
        cell.compact();
        level = Some(Value::Blob(cell.pack()));
    }
    assert_eq!(root.get_string(&twin.transact()), text);
    let mut cells = copy.cells.clone();
    cells.extend(level.map(|value| (SITES[2], 0, value)));
    assert_eq!(Document::new(None, &cells, 1, None).text(), text, "what the cells make of it");
    let theirs = twin.transact().encode_state_as_update_v1(&yrs::StateVector::default());
    assert_eq!(Part::decode(&document.state(None).unwrap()), Part::decode(&theirs), "what editors are given");
}

#[test]
fn typing_and_deleting_at_one_place_is_named_as_the_library_names_it() {
    let at = |place: usize, deleted: usize, typed: &str| (place, deleted, typed.to_owned());
    let start = [at(0, 0, "the cat sat on the mat"), at(4, 3, "dog 😀"), at(9, 2, "e\u{301}")];
    let mut edits: Vec<_> = (0..9).map(|step| at(5 + step, 0, "x")).collect();
    edits.extend((0..12).map(|step| at(13 - step, 1, "")));
    edits.extend([
        at(2, 0, "y"),
        at(3, 4, ""),
        at(3, 0, "z"),
        at(4, 0, "é"),
        at(0, 30, "all new"),
        at(7, 0, "!"),
    ]);
    edits.extend([at(0, 0, "a"), at(0, 1, ""), at(0, 0, "b"), at(1, 0, "c"), at(7, 2, "😀😀"), at(8, 1, "")]);
    type_beside_the_library(&start, &edits);
}

proptest! {
    /// A document that stays at hand names characters as the library would, whatever is typed where.
    #[test]
    fn local_edits_are_named_as_the_library_names_them(
        start in prop::collection::vec((0..60usize, 0..6usize, "[ab😀é]{0,6}"), 0..8),
        edits in prop::collection::vec((0..60usize, 0..4usize, "[xy😀é]{0,3}"), 1..40),
    ) {
        type_beside_the_library(&start, &edits);
    }

    #[test]
    fn whatever_the_sites_type_all_of_them_end_with_the_same(history in history()) {
        let mut copies = [Copy::default(), Copy::default(), Copy::default()];
        let mut typed = 0;
        for (who, at, deleted, text, to, whose) in history {
            let new = edited(&copies[who].text(), at, deleted, &text);
            typed += text.chars().count();
            copies[who].set(SITES[who], &new);
            // Cells of one site, without those of others that they build on.
            let from = copies[whose].clone();
            copies[to].take(&from, SITES[whose]);
        }
        let all = copies.clone();
        for copy in &mut copies {
            for (from, site) in all.iter().zip(SITES) {
                copy.take(from, site);
            }
        }
        prop_assert_eq!(copies[0].text(), copies[1].text());
        prop_assert_eq!(copies[0].text(), copies[2].text());
        prop_assert!(copies[0].text().chars().count() <= typed);
    }

    #[test]
    fn any_cells_make_one_text_whatever_their_order(values in prop::collection::vec(any_cell(), 1..5), turn in 0..5usize) {
        let mut cells: Vec<TextCell> =
            values.into_iter().enumerate().map(|(at, value)| (SITES[at % 3], at / 3, value)).collect();
        let shown = show(None, &cells, 1);
        let count = cells.len();
        cells.rotate_left(turn % count);
        prop_assert_eq!(show(None, &cells, 1), shown);
        // And they can be written on.
        let mut copy = Copy { cells };
        copy.set(SITES[0], "anything");
    }

    #[test]
    fn what_is_decoded_is_encoded_again(value in any_cell()) {
        if let Value::Blob(bytes) = value && let Ok(part) = Part::unpack(&bytes) {
            prop_assert_eq!(Part::unpack(&part.pack()), Ok(part.clone()));
            prop_assert_eq!(Part::decode(&part.encode()), Ok(part));
        }
    }

    #[test]
    fn parts_are_joined_and_compacted_without_a_trace(history in history()) {
        let mut copy = Copy::default();
        let mut all = Part::default();
        let mut document = Document::new(None, &[], 1, Some(&SITES[0]));
        for (_, at, deleted, text, ..) in history {
            let new = edited(document.text(), at, deleted, &text);
            all.add(document.edit(&new).unwrap());
            copy.set(SITES[0], &new);
            let before = show(None, &[(SITES[0], 0, Value::Blob(all.pack()))], 1);
            all.compact();
            prop_assert_eq!(show(None, &[(SITES[0], 0, Value::Blob(all.pack()))], 1), before);
        }
        prop_assert_eq!(document.text(), copy.text());
    }
}
