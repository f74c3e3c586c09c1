//! Minimal stand-in with the real maps.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, xdp_action},
    macros::{map, xdp},
    maps::{Array, DevMap, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
    programs::XdpContext,
};
use filter_common::{layout::*, verdict::Reason};

#[map]
static NAMES: HashMap<NameKey, Node> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static POLICIES: Array<Policy> = Array::with_max_entries(1024, 0);
#[map]
static ORDERS: Array<Order> = Array::with_max_entries(1024, 0);
#[map]
static HITS: PerCpuArray<Hits> = PerCpuArray::with_max_entries(1024, 0);
#[map]
static SCOPES_V4: LpmTrie<[u8; 4], u64> = LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static SCOPES_V6: LpmTrie<[u8; 16], u64> = LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static PORTS: Array<Ports> = Array::with_max_entries(1, 0);
#[map]
static HASH_KEY: Array<HashKey> = Array::with_max_entries(1, 0);
#[map]
static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(Reason::ALL.len() as u32, 0);
#[map]
static TARGETS: Array<Target> = Array::with_max_entries(64, 0);
#[map]
static TARGET_DEVICES: DevMap = DevMap::with_max_entries(64, 0);
#[map]
static OWN_ADDRESSES: HashMap<[u8; 16], u8> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
#[map]
static SCRATCH: PerCpuArray<[u8; 1024]> = PerCpuArray::with_max_entries(1, 0);

#[xdp(frags)]
fn cordon(ctx: XdpContext) -> u32 {
    let length = (ctx.data_end() - ctx.data()) as u64;
    let Some(counter) = COUNTERS.get_ptr_mut(0) else { return xdp_action::XDP_PASS };
    unsafe {
        (*counter).packets += 1;
        (*counter).bytes += length;
    }
    if let Some(hits) = HITS.get_ptr_mut(3) {
        unsafe { (*hits).decided += 1 }
    }
    if let (Some(_), Some(_), Some(_), Some(_)) = (POLICIES.get(0), PORTS.get(0), HASH_KEY.get(0), TARGETS.get(0)) {
        let _ = SCOPES_V4.get(&Key::new(32, [10, 0, 0, 1]));
        let _ = SCOPES_V6.get(&Key::new(128, [0; 16]));
        let _ = unsafe { NAMES.get(NameKey::default()) };
        let _ = unsafe { OWN_ADDRESSES.get([0u8; 16]) };
        let _ = SCRATCH.get_ptr(0);
        if let Some(settings) = SETTINGS.get(0) {
            if settings.client_detail == 2 {
                return TARGET_DEVICES.redirect(0, 0).unwrap_or(1);
            }
            if settings.client_detail == 1 {
                return xdp_action::XDP_DROP;
            }
        }
        if let Some(order) = ORDERS.get(1) {
            if order.end != 0 {
                if let Some(mut event) = EVENTS.reserve::<[u8; 304]>(0) {
                    unsafe {
                        let event = event.as_mut_ptr().cast::<Event>();
                        (*event).time = 7;
                        (*event).scopes = 3;
                        (*event).order = 1;
                        (*event).reason = Reason::Dropped as u32;
                        (*event).client = [0; 16];
                        (*event).interface = 1;
                        (*event).depth = 2;
                        (*event).protocol = 0;
                        (*event).name_len = 0;
                        (*event).wire = 0;
                    }
                    event.submit(0);
                }
            }
        }
    }
    xdp_action::XDP_PASS
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
