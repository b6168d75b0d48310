//! Messages on the wire: prost's, encoded in one piece.
//!
//! tonic's own codec has prost write straight into tonic's buffer, which asks for room byte by byte: a reply full of numbers
//! costs a microsecond. Here it is written into bytes of the thread's own, and then copied. A request is decoded only when
//! its repeated fields are within their bounds.

use std::{cell::RefCell, marker::PhantomData};

use bytes::{Buf, BufMut};
use prost::{Message, Name};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

use super::repeated;

/// Room that each call gets for its request, and for its reply; a larger message gets what it needs. tonic's 8 KiB are
/// memory that others have to be driven from the cores' caches for.
const BUFFER_BYTES: usize = 1024;

/// A stream is sent on when it has so much. What a client has yet to take lies here, so it is less than tonic's 32 KiB.
const YIELD_BYTES: usize = 4 * 1024;

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
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MessageEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> MessageEncoder<T> {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> MessageDecoder<U> {
        MessageDecoder(ProstDecoder::new(buffer_settings()))
    }
}

/// Decodes messages of type `U`, once their repeated fields are known to be within their bounds.
#[derive(Debug)]
pub struct MessageDecoder<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        debug_assert_eq!(buffer.chunk().len(), buffer.remaining(), "tonic has a message in one piece");
        repeated::check::<U>(buffer.chunk())?;
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer_settings()
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
