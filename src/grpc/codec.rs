//! Messages on the wire: prost's, encoded in one piece.
//!
//! tonic's own codec has prost write straight into tonic's buffer, which asks for room byte by byte: a reply full of numbers
//! costs a microsecond. Here it is written into bytes of the thread's own, and then copied.

use std::{cell::RefCell, marker::PhantomData};

use bytes::BufMut;
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

/// Room that each call gets for its request, and for its reply; a larger message gets what it needs. tonic's 8 KiB are
/// memory that others have to be driven from the cores' caches for.
const BUFFER_BYTES: usize = 1024;

/// tonic's own: a stream is sent on when it has so much.
const YIELD_BYTES: usize = 32 * 1024;

/// Bytes that a thread keeps for its next reply.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How much room calls get.
pub fn buffer_settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

/// Messages of type `T` to the other side, and of type `U` from there.
#[derive(Debug, Clone)]
pub struct MessageCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for MessageCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for MessageCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MessageEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> MessageEncoder<T> {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstDecoder::new(buffer_settings())
    }
}

/// Encodes messages of type `T`.
#[derive(Debug, Clone)]
pub struct MessageEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for MessageEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        WRITTEN.with_borrow_mut(|written| {
            written.clear();
            message.encode(written).expect("a Vec takes all that there is room for");
            buffer.put_slice(written);
            if written.capacity() > KEPT_BYTES_MAX {
                *written = Vec::new();
            }
        });
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer_settings()
    }
}
