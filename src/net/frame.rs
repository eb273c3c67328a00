//! What travels on a peer link: `u32 length | u64 tenure | packet`, big-endian. The length counts what
//! follows it; the packet is MessagePack.
//!
//! The tenure stands outside the packet so that a broadcast is encoded once: its receivers share the
//! packet's bytes and differ in twelve bytes of header.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use zabra_actors::types::{Envelope, Packet, Tenure};

/// The largest frame, in bytes without its length: far above any transaction (1 MiB) or piece of a
/// snapshot, far below what could exhaust the memory of a server that reads garbage.
pub(super) const MAX_FRAME: usize = 64 << 20;

/// Bytes of length and tenure.
const HEADER: usize = 12;

/// Bytes of the tenure, which the length counts.
const TENURE: usize = 8;

/// A packet on its way to one peer.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) header: [u8; HEADER],
    pub(super) body: Bytes,
}

impl Frame {
    /// A packet of a tenure.
    pub(super) fn new(tenure: Tenure, body: Bytes) -> Frame {
        assert!(body.len() + TENURE <= MAX_FRAME, "the speaker checks the size of a packet");
        let mut header = [0; HEADER];
        let mut out = &mut header[..];
        out.put_u32((TENURE + body.len()) as u32);
        out.put_u64(tenure.0);
        Frame { header, body }
    }

    /// Bytes on the wire.
    pub(super) fn len(&self) -> usize {
        HEADER + self.body.len()
    }
}

/// The bytes of a packet, the same for all its receivers; an error when it is too large for a frame.
pub(super) fn encode(packet: &Packet) -> Result<Bytes, String> {
    let mut out = BytesMut::new().writer();
    rmp_serde::encode::write(&mut out, packet).expect("a packet is plain data and a buffer takes it");
    let body = out.into_inner().freeze();
    if body.len() + TENURE > MAX_FRAME {
        return Err(format!(
            "a packet of {} bytes is over the limit of {MAX_FRAME} bytes for a peer's frame",
            body.len() + TENURE
        ));
    }
    Ok(body)
}

/// Takes the first whole frame out of what a link has read. `Ok(None)` when its end is not there yet.
pub(super) fn decode(buffer: &mut BytesMut) -> Result<Option<Envelope>, String> {
    let Some(mut length) = buffer.get(..4) else { return Ok(None) };
    let length = length.get_u32() as usize;
    if !(TENURE..=MAX_FRAME).contains(&length) {
        return Err(format!("a frame of {length} bytes; allowed are {TENURE} to {MAX_FRAME}"));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    let mut frame = buffer.split_to(length);
    let tenure = Tenure(frame.get_u64());
    match rmp_serde::from_slice(&frame) {
        Ok(packet) => Ok(Some(Envelope { tenure, packet })),
        Err(e) => Err(format!("a packet of {} bytes that cannot be read: {e}", frame.len())),
    }
}

/// How many bytes the first frame still lacks: 0 when it is whole, its length included when that is not
/// known yet. What a reader should have room for.
pub(super) fn missing(buffer: &BytesMut) -> usize {
    match buffer.get(..4) {
        Some(mut length) => (4 + length.get_u32() as usize).saturating_sub(buffer.len()),
        None => HEADER - buffer.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zabra_actors::types::{Entry, SessionId, Sid, Txn, TxnBody, TxnHeader, Zxid};

    use super::*;

    fn bytes_of(frames: &[Frame]) -> BytesMut {
        let mut out = BytesMut::new();
        for frame in frames {
            out.put_slice(&frame.header);
            out.put_slice(&frame.body);
        }
        out
    }

    #[test]
    fn frames_come_back_whole_wherever_the_bytes_are_cut() {
        let packets =
            [Packet::Sync, Packet::SnapChunk(Bytes::from_static(b"piece")), Packet::Ack { zxid: Zxid(7) }];
        let frames: Vec<_> =
            packets.iter().map(|p| Frame::new(Tenure(9), encode(p).expect("small"))).collect();
        let all = bytes_of(&frames);
        assert_eq!(all.len(), frames.iter().map(Frame::len).sum::<usize>());

        for cut in 0..=all.len() {
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            for part in [&all[..cut], &all[cut..]] {
                buffer.extend_from_slice(part);
                while let Some(envelope) = decode(&mut buffer).expect("good frames") {
                    assert_eq!(envelope.tenure, Tenure(9));
                    seen.push(envelope.packet);
                }
            }
            assert_eq!(seen, packets, "cut at {cut}");
            assert!(buffer.is_empty());
        }
    }

    /// Entries are equal whoever was asked, so this is looked at by itself.
    #[test]
    fn a_proposal_says_which_server_was_asked() {
        let header = TxnHeader { session: SessionId(1), cxid: 2, zxid: Zxid(3), time: 4 };
        let txn = Txn { header, body: TxnBody::Error(-101), digest: None };
        for entry in [Entry::asked_at(Sid(5), txn.clone()), Entry::new(txn)] {
            for packet in [Packet::Proposal(entry.clone()), Packet::Inform(entry.clone())] {
                let mut bytes = bytes_of(&[Frame::new(Tenure(9), encode(&packet).expect("small"))]);
                let heard = decode(&mut bytes).expect("a good frame").expect("a whole one").packet;
                let (Packet::Proposal(heard) | Packet::Inform(heard)) = heard else { panic!("{heard:?}") };
                assert_eq!((heard.asked_at, &heard), (entry.asked_at, &entry));
            }
        }
    }

    #[test]
    fn a_length_out_of_bounds_is_refused_before_its_bytes_arrive() {
        for length in [0, TENURE - 1, MAX_FRAME + 1, u32::MAX as usize] {
            let mut buffer = BytesMut::from(&(length as u32).to_be_bytes()[..]);
            let error = decode(&mut buffer).expect_err("out of bounds");
            assert!(error.contains(&length.to_string()), "{error}");
        }
        let mut largest = BytesMut::from(&(MAX_FRAME as u32).to_be_bytes()[..]);
        assert_eq!(decode(&mut largest), Ok(None));
        assert_eq!(missing(&largest), MAX_FRAME);
    }

    #[test]
    fn a_packet_over_the_limit_is_refused_at_the_sender() {
        let fits = Packet::SnapChunk(Bytes::from(vec![0; MAX_FRAME - 64]));
        assert!(encode(&fits).is_ok());
        let too_large = Packet::SnapChunk(Bytes::from(vec![0; MAX_FRAME]));
        assert!(encode(&too_large).expect_err("too large").contains("over the limit"));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_nothing_worse(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut framed = BytesMut::new();
            framed.put_u32((TENURE + garbage.len()) as u32);
            framed.put_u64(1);
            framed.put_slice(&garbage);
            // Any answer but "not whole yet" will do.
            prop_assert_ne!(decode(&mut framed), Ok(None));
            let mut bare = BytesMut::from(&garbage[..]);
            let _ = decode(&mut bare);
        }
    }
}
