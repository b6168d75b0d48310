//! The codec of messages: it encodes with prost, and writes each message in one piece.
//!
//! tonic's own codec lets prost write into tonic's buffer, which checks its capacity for every byte. So a reply full of
//! numbers takes a microsecond. Here prost writes a message into a buffer of the thread, and the codec copies the
//! bytes. The codec decodes a request only if its repeated fields are within their bounds.

use std::{cell::RefCell, marker::PhantomData};

use bytes::{Buf, BufMut};
use prost::{Message, Name};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

use crate::grpc::repeated;

/// Initial size of the two buffers of each call: one for its request, and one for its reply. The buffers grow for
/// larger messages. tonic's default of 8 KiB drives other data out of the caches of the cores.
const BUFFER_BYTES: usize = 1024;

/// When the buffered messages of a stream have this size, they are sent. The buffer contains messages that the client
/// has not taken, so it is smaller than tonic's default of 32 KiB.
const YIELD_BYTES: usize = 4 * 1024;

/// Maximum size of the buffer that a thread keeps for its next reply.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Returns the sizes of the buffers of each call.
pub fn buffer_settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

/// A codec that encodes messages of type `T` and decodes messages of type `U`.
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

/// Decodes messages of type `U`. Refuses messages whose repeated fields exceed their bounds.
#[derive(Debug)]
pub struct MessageDecoder<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        debug_assert_eq!(buffer.chunk().len(), buffer.remaining(), "tonic passes a message in one piece");
        repeated::check::<U>(buffer.chunk())?;
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer_settings()
    }
}

/// Encodes messages of type `T` in the buffer of the thread.
#[derive(Debug, Clone)]
pub struct MessageEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for MessageEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        WRITTEN.with_borrow_mut(|written| {
            written.clear();
            message.encode(written).expect("a Vec grows as long as there is memory");
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
