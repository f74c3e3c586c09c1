//! Frames: positions lie in the frame, and are those that etherparse finds.

use etherparse::{SlicedPacket, TransportSlice};
use filter_common::{
    bytes::Slice,
    frame::{self, TCP, UDP},
};

/// Reads a frame.
pub fn run(data: &[u8]) {
    let bytes = Slice(data);
    for plain in [frame::plain::ipv4(&bytes), frame::plain::ipv6(&bytes)].into_iter().flatten() {
        assert_eq!(frame::network(&bytes), Ok(plain));
    }
    let Ok(network) = frame::read(&bytes) else { return };
    assert!(network.l3 < network.l4 && network.l4 + 8 <= network.end && network.end as usize <= data.len());
    let _ = frame::client(&bytes, &network);
    let payload = match network.transport {
        UDP => frame::udp(&bytes, &network),
        TCP => frame::tcp(&bytes, &network),
        other => panic!("transport {other}"),
    };
    let Ok(payload) = payload else { return };
    assert!(network.l4 < payload.start && payload.start <= payload.end && payload.end <= network.end);

    // Where etherparse reads the transport, it reads the same. It reads no payload of fragments, fewer extension headers,
    // and nothing in tunnels.
    if network.is_wrapped() || network.labels != 0 {
        return;
    }
    let Ok(packet) = SlicedPacket::from_ethernet(data) else { return };
    let expected = match packet.transport {
        Some(TransportSlice::Udp(udp)) => udp.payload(),
        Some(TransportSlice::Tcp(tcp)) => tcp.payload(),
        _ => return,
    };
    assert_eq!(&data[payload.start as usize..payload.end as usize], expected);
}
