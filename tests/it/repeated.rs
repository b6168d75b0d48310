//! Lists that are too long are refused. They cost no more memory than the bytes of the request.

use std::{collections::HashMap, fs, path::Path};

use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use crate::harness::{clients::serving, process::tope, *};

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tope_descriptor.bin"));

/// Number of bytes of a giant list. A request may have 4 MiB.
const GIANT_BYTES: usize = 3_600 * 1024;

/// Maximum memory that one request may use for a moment, in KiB: the request, and a second copy while the server joins
/// the pieces.
const GROWTH_MAX_KIB: u64 = 24 * 1024;

/// A repeated field of a request.
struct List {
    /// The path of the rpc.
    path: String,
    /// The path of the field in the request.
    field: String,
    /// The encoding of one element. `packed` is the tag of a field whose elements are encoded as one piece.
    element: Vec<u8>,
    packed: Option<u32>,
    /// The numbers of the fields that contain the list, from the innermost to the outermost field.
    around: Vec<u32>,
}

impl List {
    /// Makes a request that contains only this list. The elements of the list have about `bytes` bytes together.
    fn request(&self, bytes: usize) -> Vec<u8> {
        let elements = self.element.repeat(bytes / self.element.len());
        let list = self.packed.map_or(elements.clone(), |tag| within(tag, &elements));
        self.around.iter().fold(list, |inner, &tag| within(tag, &inner))
    }
}

/// Encodes a field with this tag that contains these bytes.
fn within(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::encode_varint(u64::from(tag << 3 | 2), &mut field);
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

/// Lists every repeated field of every request, at any depth.
fn lists() -> Vec<List> {
    let descriptors = FileDescriptorSet::decode(DESCRIPTORS).expect("it was compiled with this program");
    let mut messages = HashMap::new();
    for file in &descriptors.file {
        for message in &file.message_type {
            messages.insert(format!(".{}.{}", file.package(), message.name()), message);
        }
    }
    let mut lists = Vec::new();
    for file in descriptors.file.iter().filter(|file| file.package() == "tope.v1") {
        for service in &file.service {
            for rpc in &service.method {
                let path = format!("/tope.v1.{}/{}", service.name(), rpc.name());
                find(&messages, &mut lists, rpc.input_type(), &path, "", &[]);
            }
        }
    }
    lists
}

fn find(
    messages: &HashMap<String, &DescriptorProto>,
    lists: &mut Vec<List>,
    message: &str,
    path: &str,
    parent: &str,
    around: &[u32],
) {
    for field in messages.get(message).iter().flat_map(|message| &message.field) {
        let tag = u32::try_from(field.number()).expect("a number");
        let name = format!("{parent}{}", field.name());
        if field.label() == Label::Repeated {
            push(lists, field, path, &name, around);
        }
        let inner = [&[tag], around].concat();
        find(messages, lists, field.type_name(), path, &format!("{name}."), &inner);
    }
}

fn push(lists: &mut Vec<List>, field: &FieldDescriptorProto, path: &str, name: &str, around: &[u32]) {
    let tag = u32::try_from(field.number()).expect("a number");
    let mut add = |element, packed| {
        let (path, field, around) = (path.to_owned(), name.to_owned(), around.to_vec());
        lists.push(List { path, field, element, packed, around });
    };
    match field.r#type() {
        Type::Message | Type::String => add(within(tag, &[]), None),
        Type::Enum | Type::Int32 | Type::Int64 => {
            add(vec![u8::try_from(tag << 3).expect("a small number"), 1], None);
            add(vec![1], Some(tag));
        }
        other => panic!("{name}: how does {other:?} stand on the wire?"),
    }
}

/// Reads a figure of a process, such as VmHWM, in KiB.
fn kib(process: &Process, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(figure)).expect("Linux has the figure");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// Reads the time that a process has run on a core, in ticks of 10 ms.
fn ticks(process: &Process) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("it runs");
    let behind = stat.rsplit(") ").next().expect("the name is in brackets");
    let number =
        |place: usize| -> u64 { behind.split(' ').nth(place).expect("a number").parse().expect("a number") };
    number(11) + number(12)
}

on_both! {
    async fn a_giant_list_is_refused_with_one_fault_and_at_little_cost(kind: Kind) {
        let database = Database::fresh(kind);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let mut command = tope();
        // The server has one thread. Each thread keeps freed memory for a while, so with several threads the peak
        // would be the sum of the threads' peaks.
        command.env("TOKIO_WORKER_THREADS", "1");
        let server = Process::start_as(command, database.url(), folder, &[]);
        let channel = server.connect().await;
        serving(&channel).await;
        let clients = Clients::of(channel);
        clients.tenant_with("acme", &[lifetime("tokens", 1_000_000)]).await;
        for _ in 0..300 {
            clients.reserve("acme").tokens(1).await.expect("there is quota");
        }
        let lists = lists();
        assert!(lists.len() > 40, "{} lists were found", lists.len());
        let (peak, resident, before) = (kib(&server, "VmHWM"), kib(&server, "RssAnon"), ticks(&server));
        for list in &lists {
            let no = raw::post(server.address(), &list.path, &[], &list.request(GIANT_BYTES)).await;
            let no = no.expect("it is refused");
            no.names(&[&list.field]);
            assert!(no.faults[0].1.starts_with("must have at most "), "{}: {no:?}", list.path);
        }
        let spent = (ticks(&server) - before) / u64::try_from(lists.len()).expect("a number");
        assert!(spent < 50, "{spent} ticks of a core for each");
        let grown = kib(&server, "VmHWM").saturating_sub(peak);
        assert!(grown < GROWTH_MAX_KIB, "the peak has grown by {grown} KiB");
        let kept = kib(&server, "RssAnon").saturating_sub(resident);
        assert!(kept < GROWTH_MAX_KIB, "{kept} KiB are kept");
        clients.reserve("acme").tokens(1).await.expect("there is quota");
        server.stop().await;
    }
}

both! {
    /// The list is refused even if its elements are short, and even if the request has other faults.
    async fn a_list_that_is_too_long_is_refused_with_one_fault(world: World) {
        // Labels with the same key are one label, so many of them are no long list.
        let alone = |list: &&List| list.around.is_empty() && list.field != "labels";
        for list in lists().iter().filter(alone) {
            let no = raw::post(world.address(), &list.path, &[], &list.request(6_000)).await;
            let no = no.expect("it is refused");
            let of_list: Vec<_> =
                no.faults.iter().filter(|(field, _)| field.starts_with(&list.field)).collect();
            let [(field, description)] = of_list[..] else { panic!("{}: {no:?}", list.path) };
            assert_eq!(*field, list.field, "{}: {no:?}", list.path);
            let bounded = description.contains("at most") || description.contains("must be 1 to 1000");
            assert!(bounded, "{}: {no:?}", list.path);
        }
    }

    /// If one operation of a Batch has too many elements, only the result of this operation reports the fault.
    async fn a_list_that_is_too_long_fails_only_its_own_operation_of_a_batch(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        let good = world.reserve("acme").tokens(1).operation();
        let mut many = world.record("acme");
        for _ in 0..5_000 {
            many = many.tokens(1);
        }
        let operations = vec![good.clone(), many.operation(), good];
        let request = v1::BatchRequest { operations };
        assert!(request.encoded_len() > 50_000, "one that is counted");
        let reply = world.quota.clone().batch(request).await.expect("it is carried out").into_inner();
        let failed = |place: usize| matches!(reply.results[place].result, Some(v1::operation_result::Result::Error(_)));
        assert_eq!([failed(0), failed(1), failed(2)], [false, true, false]);
        assert_eq!(world.figures("acme", "lifetime").await, (0, 2));
    }

    async fn a_state_that_is_given_32_times_selects_each_reservation_once(world: World) {
        world.tenant_with("acme", &[lifetime("tokens", 1_000)]).await;
        world.reserve("acme").tokens(1).await.expect("there is quota");
        let reserved = v1::ReservationState::Reserved;
        let list = |count: usize| world.list("acme").states(&vec![reserved; count]);
        assert_eq!(list(32).await.expect("one state").reservations.len(), 1);
        list(33).await.expect_err("33").names(&["states"]);
    }
}
