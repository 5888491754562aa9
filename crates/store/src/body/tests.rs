use super::*;

fn drain(reader: &mut BodyReader) -> (Vec<u8>, Read) {
    let (mut bytes, mut list) = (Vec::new(), Vec::new());
    loop {
        let read = reader.poll(u64::MAX, &mut list);
        for chunk in list.drain(..) {
            bytes.extend_from_slice(&chunk);
        }
        if read != Read::Chunks {
            return (bytes, read);
        }
    }
}

#[test]
fn readers_follow_a_growing_body_each_at_its_own_place() {
    let (body, mut writer) = Body::growing(None, None);
    let mut early = body.reader(0).unwrap();
    writer.append(Bytes::from_static(b"hello "));
    assert_eq!(drain(&mut early), (b"hello ".to_vec(), Read::Pending));
    let mut late = body.reader(3).unwrap();
    writer.append(Bytes::from_static(b"world"));
    assert_eq!(drain(&mut late), (b"lo world".to_vec(), Read::Pending));
    writer.finish(HeaderMap::new());
    assert_eq!(drain(&mut early), (b"world".to_vec(), Read::End));
    assert_eq!(drain(&mut late), (Vec::new(), Read::End));
    assert_eq!(drain(&mut body.reader(9).unwrap()), (b"ld".to_vec(), Read::End));
    assert_eq!(body.len(), Some(11));
}

#[test]
fn a_body_whose_writer_vanishes_is_cut_and_never_ends() {
    let (body, mut writer) = Body::growing(None, None);
    writer.append(Bytes::from_static(b"half"));
    let mut reader = body.reader(0).unwrap();
    drop(writer);
    assert_eq!(drain(&mut reader), (b"half".to_vec(), Read::Cut));
    assert_eq!(body.len(), None);
}

#[tokio::test]
async fn a_passing_body_holds_a_window_and_waits_for_its_slowest_reader() {
    let (body, mut writer) = Body::growing(None, Some(4));
    let (mut fast, mut slow) = (body.reader(0).unwrap(), body.reader(0).unwrap());
    writer.append(Bytes::from_static(b"abcd"));
    assert_eq!(drain(&mut fast).0, b"abcd");
    let mut waiting = tokio_test_poll(writer.room());
    assert!(waiting.is_none(), "the slow reader has taken nothing");
    assert_eq!(drain(&mut slow).0, b"abcd");
    waiting = tokio_test_poll(writer.room());
    assert_eq!(waiting, Some(true));
    assert!(body.reader(0).is_none(), "its start has been dropped");
    drop((fast, slow));
    assert_eq!(tokio_test_poll(writer.room()), Some(false), "nobody reads any more");
}

#[tokio::test]
async fn a_passing_body_is_charged_for_what_it_holds_and_for_what_is_being_sent() {
    let budget = crate::budget::Budget::new(100);
    let (body, mut writer) = Body::growing(budget.take(0), Some(1000));
    let mut reader = body.reader(0).unwrap();
    assert!(writer.charge(60));
    writer.append(Bytes::from(vec![0; 60]));
    assert!(!writer.charge(60), "there is no more room");
    let mut list = Vec::new();
    assert_eq!(
        (reader.poll(u64::MAX, &mut list), budget.used()),
        (Read::Chunks, 60),
        "the reader may still be sending it"
    );
    assert_eq!(tokio_test_poll(writer.emptied()), None);
    assert_eq!((reader.poll(u64::MAX, &mut list), budget.used()), (Read::Pending, 0), "it has come back for more");
    assert_eq!(tokio_test_poll(writer.emptied()), Some(true));
    // Without room it goes on piece by piece, and is charged for none of them.
    writer.append(Bytes::from(vec![0; 500]));
    assert_eq!((reader.poll(u64::MAX, &mut list), reader.poll(u64::MAX, &mut list)), (Read::Chunks, Read::Pending));
    drop((reader, writer));
    assert_eq!(budget.used(), 0);
}

/// Polls once.
fn tokio_test_poll<F: Future>(future: F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn small_chunks_are_joined_when_the_body_is_whole() {
    let (body, mut writer) = Body::growing(None, None);
    let pattern: Vec<u8> = (0..=255).cycle().take(700_001).collect();
    for piece in pattern.chunks(1000) {
        writer.append(Bytes::copy_from_slice(piece));
    }
    let mut half = body.reader(350_000).unwrap();
    writer.finish(HeaderMap::new());
    assert_eq!(body.chunks().unwrap().len(), 3);
    assert_eq!(drain(&mut half).0, pattern[350_000..]);
    assert_eq!(drain(&mut body.reader(0).unwrap()).0, pattern);
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_by_bytes_and_by_the_end() {
    let (body, mut writer) = Body::growing(None, None);
    let mut reader = body.reader(0).unwrap();
    let task = tokio::spawn(async move {
        let (mut list, mut total) = (Vec::new(), 0);
        while reader.read(u64::MAX, &mut list).await == Read::Chunks {
            total += list.drain(..).map(|c| c.len()).sum::<usize>();
        }
        total
    });
    for _ in 0..10 {
        tokio::task::yield_now().await;
        writer.append(Bytes::from_static(b"0123456789"));
    }
    writer.finish(HeaderMap::new());
    assert_eq!(task.await.unwrap(), 100);
}

#[test]
fn a_body_that_comes_byte_by_byte_is_held_in_few_chunks() {
    const BYTES: u64 = 100_000;
    let byte = |at: u64| u8::try_from(at % 251).unwrap();
    let (body, mut writer) = Body::growing(None, None);
    let (mut follower, mut followed) = (body.reader(0).unwrap(), Vec::new());
    let mut most = 0;
    for at in 0..BYTES {
        writer.append(Bytes::copy_from_slice(&[byte(at)]));
        most = most.max(body.growing.lock().chunks.len());
        if at % 7 == 0 {
            followed.extend(drain(&mut follower).0);
        }
    }
    assert!(most <= 7 + 15, "{most} chunks were held");
    let late = drain(&mut body.reader(12_345).unwrap()).0;
    writer.finish(HeaderMap::new());
    followed.extend(drain(&mut follower).0);
    let expected: Vec<_> = (0..BYTES).map(byte).collect();
    assert!(followed == expected, "the follower has read something else");
    assert!(late == expected[12_345..], "the late reader has read something else");
    assert!(drain(&mut body.reader(0).unwrap()).0 == expected, "the whole is something else");
}

#[test]
fn a_passing_body_that_comes_byte_by_byte_drops_what_was_read() {
    let (body, mut writer) = Body::growing(None, Some(1 << 16));
    let mut reader = body.reader(0).unwrap();
    let mut read = 0;
    for at in 0..50_000_u64 {
        writer.append(Bytes::copy_from_slice(&[u8::try_from(at % 251).unwrap()]));
        if at % 1000 == 999 {
            let (bytes, _) = drain(&mut reader);
            let expected: Vec<_> = (read..=at).map(|at| u8::try_from(at % 251).unwrap()).collect();
            assert!(bytes == expected, "behind byte {read} something else was read");
            read = at + 1;
        }
        let growing = body.growing.lock();
        assert!(growing.chunks.len() <= 40, "{} chunks are held", growing.chunks.len());
        assert!(growing.held() <= 3000, "{} bytes are held", growing.held());
    }
}

/// A kept body of `bytes` bytes on a budget of a MiB, and its writer.
fn charged(bytes: u64) -> (Arc<crate::Budget>, Arc<Body>, BodyWriter) {
    let budget = crate::Budget::new(1 << 20);
    let (body, mut writer) = Body::growing(budget.take(bytes), None);
    writer.append(Bytes::from(vec![0; usize::try_from(bytes).unwrap()]));
    (budget, body, writer)
}

#[test]
fn a_large_body_is_pinned_while_it_is_written_and_while_it_is_read() {
    let bytes = PINNED_BYTES_MIN;
    let (budget, body, writer) = charged(bytes);
    let first = body.reader(0).unwrap();
    assert_eq!(budget.pinned(), bytes, "it is written");
    writer.finish(HeaderMap::new());
    let second = body.reader(0).unwrap();
    drop(first);
    assert_eq!(budget.pinned(), bytes, "a reader is left");
    drop(second);
    assert_eq!((budget.pinned(), budget.used()), (0, bytes));
    let last = body.reader(0).unwrap();
    drop(body);
    assert_eq!(budget.pinned(), bytes);
    drop(last);
    assert_eq!((budget.pinned(), budget.used()), (0, 0));
}

#[test]
fn readers_of_small_bodies_are_not_counted() {
    let (budget, body, writer) = charged(PINNED_BYTES_MIN - 1);
    let reader = body.reader(0).unwrap();
    writer.finish(HeaderMap::new());
    assert_eq!(budget.pinned(), 0);
    drop((reader, body.reader(0)));
    assert_eq!(budget.pinned(), 0);
}

#[tokio::test]
async fn an_unread_body_can_be_cut_and_nobody_reads_it_from_then_on() {
    let (_budget, body, writer) = charged(10);
    let reader = body.reader(0).unwrap();
    assert!(tokio_test_poll(writer.unread()).is_none() && !writer.cut_if_unread());
    drop(reader);
    assert_eq!(tokio_test_poll(writer.unread()), Some(()));
    assert!(writer.cut_if_unread() && body.is_cut());
    assert!(body.reader(0).is_none());
}
