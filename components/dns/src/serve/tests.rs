//! Real sockets on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use hickory_proto::rr::RData;
use serde_json::json;

struct Running {
    udp: SocketAddr,
    tcp: SocketAddr,
    readiness: Readiness,
}

/// For what takes a moment: this process may be paused for far longer than a resolver may take.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start(upstream: Vec<SocketAddr>) -> Running {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    start_on(udp, patient(upstream)).await
}

fn patient(upstream: Vec<SocketAddr>) -> Forwarder {
    let mut forwarder = Forwarder::new(upstream);
    forwarder.patience = PATIENCE;
    forwarder
}

async fn start_on(udp: UdpSocket, forwarder: Forwarder) -> Running {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut zone = Zone::new("cluster.local").unwrap();
    zone.set_namespace("blog");
    let service = |name: &str, spec| {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "blog"}, "spec": spec})).unwrap()
    };
    zone.set_service(&service("web", json!({"clusterIP": "10.96.0.7"})));
    zone.set_service(&service("many", json!({"clusterIP": "None"})));
    zone.set_service(&service("out", json!({"type": "ExternalName", "externalName": "example.com"})));
    let endpoints: Vec<_> = (0..200).map(|last| json!({"addresses": [format!("10.244.0.{last}")]})).collect();
    zone.set_slice(
        &serde_json::from_value(json!({"metadata": {"name": "many-1", "namespace": "blog", "labels": {"kubernetes.io/service-name": "many"}},
            "addressType": "IPv4", "endpoints": endpoints}))
        .unwrap(),
    );
    let readiness = Readiness::default();
    readiness.wait_for_one_more()();
    let running =
        Running { udp: udp.local_addr().unwrap(), tcp: tcp.local_addr().unwrap(), readiness: readiness.clone() };
    let server = Arc::new(Server::new(Arc::new(RwLock::new(zone)), forwarder, readiness));
    tokio::spawn(Arc::clone(&server).udp(udp));
    tokio::spawn(server.tcp(tcp));
    running
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn ask_udp(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn ask_tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = message.to_vec().unwrap();
    stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut buffer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

/// A resolver that answers every A question with 192.0.2.1 and counts.
async fn resolver() -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = answer_to(&request);
            answer.add_answer(Record::from_rdata(
                request.queries[0].name().clone(),
                60,
                RData::A("192.0.2.1".parse().unwrap()),
            ));
            // A forged answer first: it must be ignored.
            let mut forged = answer.clone();
            forged.metadata.id = !forged.metadata.id;
            socket.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
            socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
        }
    });
    (address, count)
}

#[tokio::test]
async fn cluster_names_by_udp_and_tcp() {
    let running = start(vec![]).await;
    let asked = question("web.blog.svc.cluster.local.", RecordType::A);
    for answer in [ask_udp(running.udp, &asked).await, ask_tcp(running.tcp, &asked).await] {
        assert_eq!(answer.metadata.id, asked.metadata.id);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
        assert_eq!(answer.answers[0].data.to_string(), "10.96.0.7");
    }
    let missing = ask_udp(running.udp, &question("no.blog.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    let outside = ask_udp(running.udp, &question("example.com.", RecordType::A)).await;
    assert_eq!(outside.metadata.response_code, ResponseCode::ServFail, "without a resolver, at once");
    assert!(running.readiness.is_ready());
}

#[tokio::test]
async fn long_answers_are_cut_on_udp_only() {
    let running = start(vec![]).await;
    let asked = question("many.blog.svc.cluster.local.", RecordType::A);
    let cut = ask_udp(running.udp, &asked).await;
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(ask_tcp(running.tcp, &asked).await.answers.len(), 200);
}

#[tokio::test]
async fn other_names_are_forwarded_and_kept() {
    let (upstream, count) = resolver().await;
    let running = start(vec![upstream]).await;
    for name in ["Example.com.", "example.com."] {
        let asked = question(name, RecordType::A);
        let answer = ask_udp(running.udp, &asked).await;
        assert_eq!(answer.metadata.id, asked.metadata.id);
        assert_eq!(answer.answers[0].data.to_string(), "192.0.2.1");
        assert!(answer.answers[0].name.eq_case(asked.queries[0].name()), "the name as it was asked");
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
    let external = ask_udp(running.udp, &question("out.blog.svc.cluster.local.", RecordType::A)).await;
    let kinds: Vec<RecordType> = external.answers.iter().map(Record::record_type).collect();
    assert_eq!(kinds, [RecordType::CNAME, RecordType::A]);
}

#[tokio::test]
async fn the_next_resolver_is_asked() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (next, _) = resolver().await;
    // a pause may use up the time of the one that answers too: then it gets another turn
    let forwarder = Forwarder::new(vec![silent.local_addr().unwrap(), next, next, next]);
    let running = start_on(UdpSocket::bind("127.0.0.1:0").await.unwrap(), forwarder).await;
    let answer = ask_udp(running.udp, &question("example.com.", RecordType::A)).await;
    assert_eq!(answer.answers.len(), 1);
}

#[tokio::test]
async fn a_loop_ends_at_once() {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let own = udp.local_addr().unwrap();
    let running = start_on(udp, patient(vec![own])).await;
    let answer = ask_udp(running.udp, &question("example.com.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn nonsense_is_survived() {
    let running = start(vec![]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for bytes in [&b""[..], b"x", &[0xff; 40], &[0; 11]] {
        socket.send_to(bytes, running.udp).await.unwrap();
    }
    let mut notify = question("web.blog.svc.cluster.local.", RecordType::A);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(ask_udp(running.udp, &notify).await.metadata.response_code, ResponseCode::NotImp);
    let none = Message::query();
    assert_eq!(ask_udp(running.udp, &none).await.metadata.response_code, ResponseCode::FormErr);
}
