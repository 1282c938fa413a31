//! What `curl` does: pull, push, need, digest, snapshot, schema, health and metrics.

mod support;

use std::net::SocketAddr;

use crsql_protocol::message::*;
use crsql_server::serve::Relay;
use rusqlite::Connection;
use support::*;

const SCHEMA: &str = "
CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT, done INTEGER NOT NULL DEFAULT 0);
SELECT crsql_as_crr('todo');
";

fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    crsql::register(&connection).unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    connection
}

fn blob(connection: &Connection, sql: &str) -> Vec<u8> {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Status, headers and body.
type Answer = (u16, ureq::http::HeaderMap, Vec<u8>);

async fn ask(
    address: SocketAddr,
    method: &'static str,
    path: &str,
    headers: &[(&'static str, String)],
    body: Vec<u8>,
) -> Answer {
    let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    tokio::task::spawn_blocking(move || {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build();
        let agent: ureq::Agent = agent.into();
        let mut answer = match method {
            "GET" => agent.run(request.body(()).unwrap()).unwrap(),
            _ => agent.run(request.body(body).unwrap()).unwrap(),
        };
        let bytes = answer.body_mut().read_to_vec().unwrap();
        (answer.status().as_u16(), answer.headers().clone(), bytes)
    })
    .await
    .unwrap()
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, &[("accept", "application/json".into())], Vec::new()).await
}

fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.2).unwrap()
}

async fn relay_with(directory: &tempfile::TempDir) -> Relay {
    relay(directory.path()).await
}

#[tokio::test]
async fn two_databases_are_equal_after_a_push_and_a_need_by_http() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory).await;
    let address = relay.address();
    let a = database();
    a.execute_batch("INSERT INTO todo (id, title) VALUES (1, 'milk'), (2, 'bread'); UPDATE todo SET done = 1 WHERE id = 2")
        .unwrap();
    let pushed =
        ask(address, "POST", "/v1/rooms/demo/changes", &[], blob(&a, "SELECT crsql_changeset()")).await;
    assert_eq!(pushed.0, 200, "{}", String::from_utf8_lossy(&pushed.2));
    assert!(json(&pushed)["rejected"].as_array().unwrap().is_empty());

    let b = database();
    let vector = blob(&b, "SELECT crsql_version_vector()");
    let needed = ask(address, "POST", "/v1/rooms/demo/need", &[], vector).await;
    assert_eq!(needed.0, 200);
    b.query_row("SELECT crsql_apply(?1)", [needed.2], |_| Ok(())).unwrap();
    let digest =
        |db: &Connection| db.query_row("SELECT crsql_digest()", [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(digest(&a), digest(&b));
    // Without a schema everything is parked at the relay, and counts all the same.
    let of_room = json(&get(address, "/v1/rooms/demo/digest").await);
    assert_eq!(of_room["digest"], digest(&a));
    relay.stop().await;
}

#[tokio::test]
async fn what_is_pushed_by_http_comes_live_and_what_is_pushed_live_is_pulled() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory).await;
    let address = relay.address();
    let mut live = Client::connect(address, Device::new(1), &Options::default()).await;
    live.caught_up().await;
    let a = database();
    a.execute_batch("INSERT INTO todo (id, title) VALUES (1, 'milk')").unwrap();
    ask(address, "POST", "/v1/rooms/demo/changes", &[], blob(&a, "SELECT crsql_changeset()")).await;
    live.until("the delta", |live| live.device.deltas.len() == 1).await;

    let first = get(address, "/v1/rooms/demo/changes").await;
    let position = json(&first)["position"].as_str().unwrap().to_owned();
    assert_eq!(first.1["x-crsql-position"], position);
    let path = format!("/v1/rooms/demo/changes?after={position}");
    assert_eq!(get(address, &path).await.0, 204);
    let waiting = tokio::spawn(async move { get(address, &format!("{path}&wait=20s")).await });
    live.write("late").await;
    live.flushed().await;
    let second = waiting.await.unwrap();
    let frames = json(&second)["frames"].clone();
    assert_eq!((second.0, &frames[0]["site_version"]), (200, &1.into()));
    let binary = ask(address, "GET", "/v1/rooms/demo/changes", &[], Vec::new()).await;
    let batch = crsql_protocol::codec::decode(&binary.2, 1 << 20).unwrap();
    assert!(matches!(batch, Some(Message::Batch(batch)) if batch.frames.len() == 2));
    let old = get(address, "/v1/rooms/demo/changes?after=0000000000000001.1").await;
    assert_eq!((old.0, json(&old)["code"].as_str()), (410, Some("lost")));
    relay.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_the_room_as_a_database_and_resumes_where_it_broke_off() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory).await;
    let address = relay.address();
    let made = ask(address, "PUT", "/v1/rooms/demo/schema", &[], SCHEMA.into()).await;
    assert_eq!(made.0, 204, "{}", String::from_utf8_lossy(&made.2));
    let a = database();
    a.execute_batch("INSERT INTO todo (id, title) VALUES (1, 'milk')").unwrap();
    ask(address, "POST", "/v1/rooms/demo/changes", &[], blob(&a, "SELECT crsql_changeset()")).await;
    let whole = get(address, "/v1/rooms/demo/snapshot").await;
    let path = directory.path().join("copy.db");
    std::fs::write(&path, &whole.2).unwrap();
    let copy = Connection::open(&path).unwrap();
    crsql::register(&copy).unwrap();
    let title: String = copy.query_row("SELECT title FROM todo", [], |row| row.get(0)).unwrap();
    assert_eq!(title, "milk");
    let tag = whole.1["etag"].to_str().unwrap().to_owned();
    let range = [("range", "bytes=1000-".to_owned()), ("if-range", tag.clone())];
    let rest = ask(address, "GET", "/v1/rooms/demo/snapshot", &range, Vec::new()).await;
    assert_eq!((rest.0, &rest.2[..]), (206, &whole.2[1000..]));
    let same = ask(address, "GET", "/v1/rooms/demo/snapshot", &[("if-none-match", tag)], Vec::new()).await;
    assert_eq!(same.0, 304);
    let schema = get(address, "/v1/rooms/demo/schema").await;
    assert!(String::from_utf8_lossy(&schema.2).contains("CREATE TABLE todo"));
    relay.stop().await;
}

#[tokio::test]
async fn a_schema_is_told_with_what_its_tables_declare() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory).await;
    let address = relay.address();
    let schema = "CREATE TABLE post (id INTEGER PRIMARY KEY NOT NULL, slug TEXT UNIQUE);
        CREATE TABLE hit (id INTEGER PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, note TEXT);
        SELECT crsql_as_crr('post', '{\"unique\":\"winner\"}');
        SELECT crsql_as_crr('hit', '{\"columns\":{\"n\":\"counter\"}}');";
    let made = ask(address, "PUT", "/v1/rooms/demo/schema", &[], schema.into()).await;
    assert_eq!(made.0, 204, "{}", String::from_utf8_lossy(&made.2));
    let told = get(address, "/v1/rooms/demo/schema").await.2;
    let text = String::from_utf8_lossy(&told).into_owned();
    for line in [
        r#"SELECT crsql_as_crr('post', '{"unique":"winner"}');"#,
        r#"SELECT crsql_as_crr('hit', '{"columns":{"n":"counter"}}');"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
    let again = ask(address, "PUT", "/v1/rooms/other/schema", &[], told).await;
    assert_eq!(again.0, 204, "{}", String::from_utf8_lossy(&again.2));
    assert_eq!(get(address, "/v1/rooms/other/schema").await.2, text.as_bytes());
    relay.stop().await;
}

#[tokio::test]
async fn health_and_metrics_answer_and_mistakes_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_with(&directory).await;
    let address = relay.address();
    assert_eq!(get(address, "/healthz").await.0, 200);
    assert_eq!(get(address, "/readyz").await.0, 200);
    let metrics = String::from_utf8(get(address, "/metrics").await.2).unwrap();
    assert!(metrics.contains("\ncrsql_connections "), "{metrics}");
    let none = get(address, "/v1/rooms/nowhere/digest").await;
    assert_eq!((none.0, json(&none)["code"].as_str()), (404, Some("no-room")));
    let garbage = ask(address, "POST", "/v1/rooms/demo/changes", &[], b"hello".to_vec()).await;
    assert_eq!(garbage.0, 400);
    let forged = ask(address, "POST", "/v1/rooms/demo/changes", &[], b"crsqlcs nonsense".to_vec()).await;
    assert_eq!((forged.0, json(&forged)["code"].as_str()), (400, Some("body")));
    let other = [("origin", "https://elsewhere.example".to_owned())];
    assert_eq!(ask(address, "GET", "/v1/rooms/demo/digest", &other, Vec::new()).await.0, 403);
    relay.stop().await;
}

#[tokio::test]
async fn a_newcomer_is_offered_a_snapshot_when_reading_everything_would_cost_more() {
    let directory = tempfile::tempdir().unwrap();
    let relay = Relay::start(settings(directory.path(), |flags| flags.snapshot_min = Some("4KiB".into())))
        .await
        .unwrap();
    let address = relay.address();
    ask(address, "PUT", "/v1/rooms/demo/schema", &[], SCHEMA.into()).await;
    let mut a = Client::connect(address, Device::new(1), &Options::default()).await;
    a.ready().await;
    for _ in 0..50 {
        a.write(&"x".repeat(200)).await;
    }
    a.flushed().await;
    // Nobody waits for a database that lags behind, so let it catch up.
    get(address, "/v1/rooms/demo/digest").await;
    let mut b = Client::connect(address, Device::new(2), &Options::default()).await;
    b.until("the offer", |b| b.events.iter().any(|e| matches!(e, crsql_protocol::Event::Snapshot(_)))).await;
    let offer = b.events.iter().find_map(|event| match event {
        crsql_protocol::Event::Snapshot(snapshot) => Some(snapshot.clone()),
        _ => None,
    });
    let offer = offer.unwrap();
    let file = get(address, &offer.url).await;
    assert_eq!((file.0, file.2.len() as u64), (200, offer.bytes));
    assert_eq!(blake3::hash(&file.2).as_bytes()[..16], offer.checksum.0);
    // From its position on, the journal goes on.
    let mut device = b.into_device();
    let Event::Ready(welcome) = &a.events[0] else { panic!() };
    device.cursor = Some(Cursor { epoch: welcome.epoch, pos: offer.pos });
    let mut b = Client::connect(address, device, &Options::default()).await;
    b.caught_up().await;
    assert!(b.device.frames.is_empty());
    relay.stop().await;
}

use crsql_protocol::Event;
