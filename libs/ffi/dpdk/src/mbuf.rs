//! The fields of an mbuf, by offsets that the C compiler computes from DPDK's headers (`dpdk-sys/mbuf_fields.h`).
//!
//! An offset is a constant, so each accessor is one load or store. bindgen's structure has other field names in each release of DPDK, which
//! is why it is opaque.

use std::ptr::NonNull;

use dpdk_sys as sys;

/// Pointer to an initialised mbuf with one owner. Dropping it frees nothing; [`Packet`](crate::Packet) does.
#[repr(transparent)]
pub(crate) struct Mbuf(NonNull<sys::rte_mbuf>);

/// Defines the getter of a field, and its setter if it has one.
macro_rules! field {
    ($offset:ident, $type:ty, $get:ident $(, $set:ident)?) => {
        #[inline(always)]
        pub fn $get(&self) -> $type {
            // SAFETY: an owned, initialised mbuf has a field of this type at this offset, which the shim checks when it is compiled.
            unsafe { self.0.byte_add(sys::$offset as usize).cast::<$type>().read() }
        }

        $(
            #[inline(always)]
            pub fn $set(&mut self, value: $type) {
                // SAFETY: as for the getter, and borrowed mutably.
                unsafe { self.0.byte_add(sys::$offset as usize).cast::<$type>().write(value) }
            }
        )?
    };
}

impl Mbuf {
    field!(FC_MBUF_BUF_ADDR, *mut u8, buf_addr);
    field!(FC_MBUF_DATA_OFF, u16, data_off, set_data_off);
    field!(FC_MBUF_NB_SEGS, u16, nb_segs);
    field!(FC_MBUF_PORT, u16, port);
    field!(FC_MBUF_OL_FLAGS, u64, ol_flags);
    field!(FC_MBUF_PKT_LEN, u32, pkt_len, set_pkt_len);
    field!(FC_MBUF_DATA_LEN, u16, data_len, set_data_len);
    field!(FC_MBUF_BUF_LEN, u16, buf_len);

    /// The next segment of the same packet, owned together with this one.
    #[inline(always)]
    pub fn next(&self) -> Option<&Mbuf> {
        // SAFETY: as for the fields; null or the pointer to an initialised mbuf, which is what an Option of this type is in memory.
        unsafe { self.0.byte_add(sys::FC_MBUF_NEXT as usize).cast::<Option<Mbuf>>().as_ref() }.as_ref()
    }

    /// The address of the first byte of data, as `rte_pktmbuf_mtod` has it.
    #[inline(always)]
    pub fn start(&self) -> *mut u8 {
        // SAFETY: the data of an initialised mbuf begins within its buffer, or at its end.
        unsafe { self.buf_addr().add(usize::from(self.data_off())) }
    }

    #[inline(always)]
    pub fn as_ptr(&self) -> *mut sys::rte_mbuf {
        self.0.as_ptr()
    }
}
