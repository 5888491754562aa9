use super::*;

/// The sizes of the pieces that a body of this length is kept in, if it comes in pieces of these sizes.
fn kept_in(length: Option<u64>, pieces: &[usize]) -> Vec<usize> {
    let (mut room, mut kept, mut sent) = (Room::of(length), Vec::new(), Vec::new());
    for (number, size) in pieces.iter().enumerate() {
        let piece = vec![u8::try_from(number).unwrap(); *size];
        room.copy(&piece, |bytes| kept.push(bytes));
        sent.extend(piece);
    }
    assert_eq!(kept.concat(), sent, "{length:?} {pieces:?}");
    kept.iter().map(Bytes::len).collect()
}

#[test]
fn a_body_that_nobody_reads_is_finished_if_it_is_small_or_mostly_here() {
    const MIB: u64 = 1 << 20;
    for (length, received, expected) in [
        (Some(0), 0, true),
        (Some(MIB), 0, true),
        (Some(MIB + 1), 0, false),
        (Some(10 * MIB), 5 * MIB, false),
        (Some(10 * MIB), 5 * MIB + 1, true),
        (Some(10 * MIB), 10 * MIB, true),
        (Some(10 * MIB), 11 * MIB, true),
        // It may have no end.
        (None, MIB, true),
        (None, MIB + 1, false),
    ] {
        assert_eq!(is_worth_finishing(length, received), expected, "{length:?} {received}");
    }
}

#[test]
fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
    for (written, more, expected) in [(0, 10, false), (9, 1, false), (9, 2, true), (10, 0, false), (0, 11, true)] {
        assert_eq!(outgrows(written, more, 10), expected, "{written} {more}");
    }
}

#[test]
fn small_pieces_of_a_body_of_known_length_share_an_allocation() {
    let pieces = [3, 4, 3];
    let (mut room, mut ends) = (Room::of(Some(10)), Vec::new());
    for size in pieces {
        room.copy(&vec![0; size], |bytes| ends.push((bytes.as_ptr() as usize, bytes.len())));
    }
    let shared = ends.windows(2).all(|pair| matches!(pair, [(at, length), (next, _)] if at + length == *next));
    assert!(shared, "{ends:?}");
}

#[test]
fn no_allocation_for_a_kept_body_is_larger_than_the_rest_of_it_or_the_maximum() {
    let most = usize::try_from(ROOM_BYTES).unwrap();
    for (length, pieces, expected) in [
        (Some(10), &[10][..], vec![10]),
        (Some(10), &[4, 6], vec![4, 6]),
        (Some(10), &[4, 0, 6], vec![4, 6]),
        // A piece that crosses the end of an allocation is cut there.
        (Some(ROOM_BYTES + 10), &[most - 1, 2, 9], vec![most - 1, 1, 1, 9]),
        // The last piece needs no room beside itself, however large it is.
        (Some(2 * ROOM_BYTES), &[2 * most], vec![2 * most]),
        // Of unknown length, each piece is as large as it is.
        (None, &[4, 6], vec![4, 6]),
        // A body longer than its head says is kept too: it is refused elsewhere.
        (Some(3), &[5], vec![5]),
    ] {
        assert_eq!(kept_in(length, pieces), expected, "{length:?} {pieces:?}");
    }
}

#[test]
fn small_pieces_that_pass_do_not_keep_the_buffer_that_they_came_in() {
    let buffer = Bytes::from(vec![0; 4 * SLICE_BYTES_MIN]);
    for (size, is_copied) in [(1, true), (SLICE_BYTES_MIN - 1, true), (SLICE_BYTES_MIN, false)] {
        let piece = buffer.slice(..size);
        assert_eq!(compact(piece.clone()).as_ptr() != piece.as_ptr(), is_copied, "{size}");
    }
}
