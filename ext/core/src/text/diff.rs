//! The edits that make one text of another: what a plain `UPDATE` of a text meant.
//!
//! What both have in common at the beginning and at the end stays. What is between is compared character by character
//! (Myers, *An O(ND) Difference Algorithm*, 1986), as long as the difference is small; a large one is one edit. Edits
//! that lie close together are one edit, too, because nobody types like that.

/// One place where a text changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit<'a> {
    /// Where, in bytes of the old text.
    pub at: usize,
    /// How many bytes go.
    pub deleted: usize,
    /// What comes in their place.
    pub inserted: &'a str,
}

/// So many characters may differ before the whole rest is one edit: it bounds the work to its square.
const DIFFERENCES_MAX: usize = 400;

/// Equal characters between two edits, at least.
const APART: usize = 4;

/// The edits that make `new` of `old`, in order, none touching another. Every edit begins and ends between characters,
/// and not before a mark that belongs to the character before it.
pub fn diff<'a>(old: &str, new: &'a str) -> Vec<Edit<'a>> {
    let (start, old_end, new_end) = differing(old, new);
    let (a, b) = (&old[start..old_end], &new[start..new_end]);
    if a.is_empty() && b.is_empty() {
        return Vec::new();
    }
    let whole = || vec![Edit { at: start, deleted: a.len(), inserted: b }];
    if a.is_empty() || b.is_empty() {
        return whole();
    }
    let (from, to): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    match runs(&from, &to) {
        Some(runs) => edits(old, new, start, &from, &to, &runs),
        None => whole(),
    }
}

/// Where the texts begin to differ, and where each begins to be equal again.
fn differing(old: &str, new: &str) -> (usize, usize, usize) {
    let (a, b) = (old.as_bytes(), new.as_bytes());
    let mut start = common_start(a, b);
    while start > 0 && !(begins(old, start) && begins(new, start)) {
        start -= 1;
    }
    let mut tail = common_end(&a[start..], &b[start..]);
    while tail > 0 && !(begins(old, old.len() - tail) && begins(new, new.len() - tail)) {
        tail -= 1;
    }
    (start, old.len() - tail, new.len() - tail)
}

/// Bytes that are compared at once: a text is long, and what changes in it short.
const CHUNK: usize = 128;

fn common_start(a: &[u8], b: &[u8]) -> usize {
    let chunks = a.chunks_exact(CHUNK).zip(b.chunks_exact(CHUNK)).take_while(|(a, b)| a == b).count();
    let start = chunks * CHUNK;
    start + a[start..].iter().zip(&b[start..]).take_while(|(a, b)| a == b).count()
}

fn common_end(a: &[u8], b: &[u8]) -> usize {
    let chunks = a.rchunks_exact(CHUNK).zip(b.rchunks_exact(CHUNK)).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[..a.len() - chunks * CHUNK], &b[..b.len() - chunks * CHUNK]);
    chunks * CHUNK + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// Whether an edit may begin there.
fn begins(text: &str, at: usize) -> bool {
    text.is_char_boundary(at) && !text[at..].starts_with(is_mark) && !text[..at].ends_with('\u{200d}')
}

/// Marks that belong to the character before them, as far as they are common.
fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{610}'..='\u{61a}'
        | '\u{64b}'..='\u{65f}' | '\u{93c}' | '\u{93e}'..='\u{94f}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{200d}' | '\u{20d0}'..='\u{20ff}' | '\u{3099}' | '\u{309a}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{1f3fb}'..='\u{1f3ff}'
        | '\u{e0020}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}

/// The runs of equal characters, (where in `a`, where in `b`, how many); `None` when too much differs.
fn runs(a: &[char], b: &[char]) -> Option<Vec<(usize, usize, usize)>> {
    let (n, m) = (a.len() as isize, b.len() as isize);
    let most = DIFFERENCES_MAX.min(a.len() + b.len()) as isize;
    if (n - m).abs() > most {
        return None;
    }
    // The furthest x on each diagonal, and how that was before each step.
    let mut furthest = vec![0isize; 2 * most as usize + 2];
    let mut steps: Vec<Vec<isize>> = Vec::new();
    let at = |k: isize| (k + most) as usize;
    for d in 0..=most {
        steps.push(furthest[at(-d)..=at(d)].to_vec());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && furthest[at(k - 1)] < furthest[at(k + 1)]);
            let mut x = if d == 0 {
                0
            } else if down {
                furthest[at(k + 1)]
            } else {
                furthest[at(k - 1)] + 1
            };
            while x < n && x - k < m && a[x as usize] == b[(x - k) as usize] {
                x += 1;
            }
            furthest[at(k)] = x;
            if x >= n && x - k >= m {
                return Some(back(&steps, n, m));
            }
        }
    }
    None
}

/// The way back through the steps.
fn back(steps: &[Vec<isize>], n: isize, m: isize) -> Vec<(usize, usize, usize)> {
    let (mut x, mut y) = (n, m);
    let mut runs = Vec::new();
    for d in (0..steps.len() as isize).rev() {
        let before = |k: isize| steps[d as usize].get((k + d) as usize).copied().unwrap_or(-1);
        let k = x - y;
        let (start_x, start_y, came) = if d == 0 {
            (0, 0, (0, 0))
        } else {
            let down = k == -d || (k != d && before(k - 1) < before(k + 1));
            let (from, k0) = if down { (before(k + 1), k + 1) } else { (before(k - 1), k - 1) };
            let start = if down { from } else { from + 1 };
            (start, start - k, (from, from - k0))
        };
        if x > start_x {
            runs.push((start_x as usize, start_y as usize, (x - start_x) as usize));
        }
        (x, y) = came;
    }
    runs.reverse();
    runs
}

/// What lies between the runs that are long enough to keep.
fn edits<'a>(
    old: &str,
    new: &'a str,
    start: usize,
    from: &[char],
    to: &[char],
    runs: &[(usize, usize, usize)],
) -> Vec<Edit<'a>> {
    let len = |chars: &[char]| chars.iter().map(|c| c.len_utf8()).sum::<usize>();
    let mut edits: Vec<Edit<'a>> = Vec::new();
    // Where the edit that is being made begins, in both.
    let (mut a, mut b) = (0, 0);
    let (mut old_at, mut new_at) = (start, start);
    for (x, y, count) in runs.iter().copied().chain([(from.len(), to.len(), 0)]) {
        let is_last = count == 0;
        let (old_len, new_len) = (len(&from[a..x]), len(&to[b..y]));
        let may_stop = count >= APART
            && begins(old, old_at + old_len)
            && begins(new, new_at + new_len)
            && begins(old, old_at + old_len + len(&from[x..x + count]))
            && begins(new, new_at + new_len + len(&from[x..x + count]));
        if !(is_last || may_stop) {
            continue;
        }
        if old_len + new_len > 0 {
            let inserted = &new[new_at..new_at + new_len];
            edits.push(Edit { at: old_at, deleted: old_len, inserted });
        }
        let kept = len(&from[x..x + count]);
        (old_at, new_at) = (old_at + old_len + kept, new_at + new_len + kept);
        (a, b) = (x + count, y + count);
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(old: &str, edits: &[Edit<'_>]) -> String {
        let mut text = old.to_owned();
        for edit in edits.iter().rev() {
            text.replace_range(edit.at..edit.at + edit.deleted, edit.inserted);
        }
        text
    }

    #[test]
    fn what_two_places_have_in_between_stays() {
        let edits = diff("the cat sat on the mat", "the dog sat on the big mat");
        assert_eq!(
            edits,
            [Edit { at: 4, deleted: 3, inserted: "dog" }, Edit { at: 18, deleted: 0, inserted: " big" },]
        );
        assert_eq!(diff("same", "same"), []);
        assert_eq!(diff("", "new"), [Edit { at: 0, deleted: 0, inserted: "new" }]);
    }

    #[test]
    fn no_edit_parts_a_character_from_its_marks() {
        // The same letter under another accent, a flag of a hand's colour, and half of a surrogate pair.
        for (old, new) in [("ne\u{301}e", "ne\u{300}e"), ("a👋🏻b", "a👋🏿b"), ("😀", "😁"), ("é", "è")]
        {
            for edit in diff(old, new) {
                assert!(begins(old, edit.at) && begins(old, edit.at + edit.deleted), "{old} {new} {edit:?}");
            }
            assert_eq!(apply(old, &diff(old, new)), new);
        }
    }

    #[test]
    fn what_differs_too_much_is_one_edit() {
        let (old, new) = ("ab".repeat(2_000), "cd".repeat(2_000));
        assert_eq!(diff(&old, &new), [Edit { at: 0, deleted: 4_000, inserted: &new }]);
    }

    proptest! {
        #[test]
        fn edits_make_the_new_text_of_the_old(old in "[ab😀e\u{301}\u{200d}]{0,40}", new in "[ab😀e\u{301}\u{200d}]{0,40}") {
            let edits = diff(&old, &new);
            prop_assert_eq!(&apply(&old, &edits), &new);
            prop_assert!(edits.windows(2).all(|pair| pair[0].at + pair[0].deleted < pair[1].at));
        }
    }
}
