//! Three layers, one of them at the place of its parent, that say their values or fail to.

use super::{Attempted, Event, Layer, Layered, Root, Typed, Values, values};
use crate::catalogue::declare::{
    Audience, Declarations, EventDeclaration, FieldDeclaration, FieldKind, LayerDeclaration, Rule,
};
use crate::catalogue::{Catalogue, Unbuilt, Undeclared};
use crate::prepare::{Snapshot, TelemetryPolicy};
use crate::{EventType, SubscriptionId, Timestamp};
use serde_json::{Value, json};

fn field(path: &str, kind: FieldKind, rule: Rule) -> FieldDeclaration {
    FieldDeclaration { rule, ..FieldDeclaration::new(path, kind) }
}

fn uuid() -> FieldDeclaration {
    FieldDeclaration { required: true, ..field("uuid", FieldKind::String, Rule::Drop) }
}

fn status() -> FieldDeclaration {
    FieldDeclaration {
        values: vec!["STARTED".into(), "FAILURE".into()],
        ..field("status", FieldKind::String, Rule::Keep)
    }
}

fn heartbeat() -> FieldDeclaration {
    FieldDeclaration { audience: Audience::Telemetry, ..field("heartbeat", FieldKind::Boolean, Rule::Keep) }
}

/// How a layer fails.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Not,
    Error,
    Panic,
}

struct Project {
    uuid: Value,
}

impl Layer for Project {
    const NAME: &'static str = "project";
    type Parent = Root;
    fn parent(&self) -> &Root {
        &Root
    }
    fn fields() -> Vec<FieldDeclaration> {
        vec![uuid(), field("name", FieldKind::String, Rule::LengthBucket(vec![1, 10]))]
    }
    fn values(&self) -> Result<Values, Unbuilt> {
        values([("uuid", self.uuid.clone()), ("name", "Churn".into())])
    }
}

struct Job {
    project: Project,
    status: &'static str,
    fails: How,
}

impl Layer for Job {
    const NAME: &'static str = "project:job";
    type Parent = Project;
    fn parent(&self) -> &Project {
        &self.project
    }
    fn fields() -> Vec<FieldDeclaration> {
        vec![status(), heartbeat(), field("parameters", FieldKind::Object, Rule::Count)]
    }
    fn values(&self) -> Result<Values, Unbuilt> {
        match self.fails {
            How::Not => values([
                ("status", self.status.into()),
                ("heartbeat", true.into()),
                ("parameters", json!({ "secret": 1, "other": [2] })),
            ]),
            How::Error => Err(Unbuilt("the job is gone".into())),
            How::Panic => panic!("the control of a test"),
        }
    }
}

/// Adds to the place of its parent, as the original's cron layer does.
struct Cron(Job);

impl Layer for Cron {
    const NAME: &'static str = "project:cron-job";
    const AT: Option<&'static str> = Some("project.job");
    type Parent = Job;
    fn parent(&self) -> &Job {
        &self.0
    }
    fn fields() -> Vec<FieldDeclaration> {
        vec![field("schedule", FieldKind::String, Rule::Present)]
    }
    fn values(&self) -> Result<Values, Unbuilt> {
        values([("schedule", "0 0 * * *".into())])
    }
}

struct Failed(Cron);

impl Event for Failed {
    const TYPE: &'static str = "project:cron-job:failed";
    type Layer = Cron;
    fn layer(&self) -> &Cron {
        &self.0
    }
    fn title() -> Option<&'static str> {
        Some("A job failed")
    }
    fn fields() -> Vec<FieldDeclaration> {
        vec![field("steps", FieldKind::Array, Rule::Count)]
    }
    fn values(&self) -> Result<Values, Unbuilt> {
        values([("steps", json!(["load", "train"]))])
    }
}

fn failed(uuid: Value, status: &'static str, fails: How) -> Failed {
    Failed(Cron(Job { project: Project { uuid }, status, fails }))
}

/// The same as it is read from TOML.
fn as_toml() -> Declarations {
    let layer = |name: &str, parent: Option<&str>, at: Option<&str>, fields| LayerDeclaration {
        name: name.into(),
        parent: parent.map(Into::into),
        at: at.map(Into::into),
        fields,
    };
    let name = field("name", FieldKind::String, Rule::LengthBucket(vec![1, 10]));
    let job = vec![status(), heartbeat(), field("parameters", FieldKind::Object, Rule::Count)];
    let cron = vec![field("schedule", FieldKind::String, Rule::Present)];
    Declarations {
        layers: vec![
            layer("project:cron-job", Some("project:job"), Some("project.job"), cron),
            layer("project:job", None, None, job),
            layer("project", None, None, vec![uuid(), name]),
        ],
        events: vec![EventDeclaration {
            name: "project:cron-job:failed".into(),
            fields: vec![field("steps", FieldKind::Array, Rule::Count)],
            ..EventDeclaration::default()
        }],
    }
}

fn snapshot(declarations: &Declarations) -> Snapshot {
    Snapshot {
        catalogue: Catalogue::compile(declarations, Undeclared::Reject).unwrap(),
        telemetry: Some(TelemetryPolicy::default()),
        quarantine: Some(SubscriptionId(7)),
        ..Snapshot::default()
    }
}

#[test]
fn events_declared_in_rust_and_in_toml_give_the_same_bytes() {
    let Attempted { draft, failure } = failed("P".into(), "FAILURE", How::Not).attempt().unwrap();
    assert_eq!(failure, None);
    let now = Timestamp::from_millis(1_732_000_000_000);
    let in_rust = snapshot(&Declarations::default().with::<Failed>()).prepare(draft.clone(), now).unwrap();
    let in_toml = snapshot(&as_toml()).prepare(draft, now).unwrap();
    assert_eq!(in_rust.payloads.notification(), in_toml.payloads.notification());
    assert_eq!(in_rust.payloads.kept(), in_toml.payloads.kept());
    let event = failed("P".into(), "FAILURE", How::Not);
    let body = in_rust.payloads.notification().unwrap();
    let data = event.to_notification().unwrap();
    assert!(std::str::from_utf8(body).unwrap().ends_with(&format!(r#""data":{data}}}"#)), "{body:?}");
    assert_eq!(
        data,
        r#"{"project":{"job":{"parameters":{"other":[2],"secret":1},"schedule":"0 0 * * *","status":"FAILURE","steps":["load","train"]},"name":"Churn","uuid":"P"}}"#
    );
    let telemetry = event.to_telemetry().unwrap();
    let kept = in_rust.payloads.kept().unwrap();
    assert!(kept.ends_with(telemetry.as_bytes()), "{kept:?}");
    assert_eq!(
        telemetry,
        r#"{"event":"project:cron-job:failed","event_properties":{"project":{"job":{"heartbeat":true,"status":"FAILURE"}}},"derived_properties":{"project":{"job":{"parameters_count":2,"schedule_present":true,"steps_count":2},"name_length_bucket":"1..10"}}}"#
    );
}

#[test]
fn a_layer_alone_shows_what_it_and_its_parents_add() {
    let job = failed("P".into(), "STARTED", How::Not).0.0;
    assert_eq!(
        job.to_telemetry().unwrap(),
        r#"{"event":"project:job","event_properties":{"project":{"job":{"heartbeat":true,"status":"STARTED"}}},"derived_properties":{"project":{"job":{"parameters_count":2},"name_length_bucket":"1..10"}}}"#
    );
    assert_eq!(job.project.to_notification().unwrap(), r#"{"project":{"name":"Churn","uuid":"P"}}"#);
    let names: Vec<_> = Cron::declarations().into_iter().map(|layer| (layer.name, layer.parent)).collect();
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(
        names,
        [
            ("project".to_owned(), None),
            ("project:job".to_owned(), some("project")),
            ("project:cron-job".to_owned(), some("project:job"))
        ]
    );
}

#[test]
fn layers_that_two_types_share_are_declared_once_and_those_that_differ_are_a_fault() {
    struct Started(Cron);
    impl Event for Started {
        const TYPE: &'static str = "project:cron-job:started";
        type Layer = Cron;
        fn layer(&self) -> &Cron {
            &self.0
        }
    }
    let both = Declarations::default().with::<Failed>().with::<Started>();
    assert_eq!((both.layers.len(), both.events.len()), (3, 2));
    let mut other = both.clone();
    other.layers[0].fields.clear();
    let faults = Catalogue::compile(&other.with::<Started>(), Undeclared::Reject).unwrap_err();
    assert!(faults.iter().any(|fault| fault.what.contains("\"project\" is declared twice")), "{faults:?}");
}

#[test]
fn a_layer_that_cannot_say_its_values_is_named_and_the_others_are_there() {
    for (how, why) in
        [(How::Error, "project:job: the job is gone"), (How::Panic, "project:job: saying its values panicked")]
    {
        let Attempted { draft, failure } = failed("P".into(), "STARTED", how).attempt().unwrap();
        assert_eq!(failure.map(Unbuilt::from), Some(Unbuilt(why.into())));
        assert_eq!(
            draft.properties,
            r#"{"project":{"job":{"schedule":"0 0 * * *","steps":["load","train"]},"name":"Churn","uuid":"P"}}"#
        );
        assert_eq!(failed("P".into(), "STARTED", how).to_telemetry(), Err(Unbuilt(why.into())));
    }
}

#[test]
fn a_layer_that_panics_when_asked_for_what_it_stands_on_is_named_and_says_its_own() {
    struct Broken;
    impl Layer for Broken {
        const NAME: &'static str = "project:broken";
        type Parent = Project;
        fn parent(&self) -> &Project {
            panic!("the control of a test")
        }
        fn fields() -> Vec<FieldDeclaration> {
            Vec::new()
        }
        fn values(&self) -> Result<Values, Unbuilt> {
            values([("own", 1.into())])
        }
    }
    struct Over(bool, Broken);
    impl Event for Over {
        const TYPE: &'static str = "project:broken:over";
        type Layer = Broken;
        fn layer(&self) -> &Broken {
            assert!(self.0, "the control of a test");
            &self.1
        }
    }
    for (over, who, said) in [
        (Over(true, Broken), "project:broken", r#"{"project":{"broken":{"own":1}}}"#),
        (Over(false, Broken), "project:broken:over", r#"{"project":{"broken":{}}}"#),
    ] {
        let attempted = over.attempt().unwrap();
        assert_eq!(attempted.failure.map(|failure| failure.who), Some(who));
        assert_eq!(attempted.draft.properties, said);
    }
}

#[test]
fn what_failed_or_does_not_fit_is_recorded_notified_and_quarantined_without_telemetry() {
    let snapshot = snapshot(&as_toml());
    let now = Timestamp::from_millis(1_732_000_000_000);
    for (event, why) in [
        (failed("P".into(), "STARTED", How::Error), "`project:job` could not say its values"),
        (failed(Value::Null, "STARTED", How::Not), "/project/uuid: must be a string"),
        (failed("P".into(), "BROKEN", How::Not), "/project/job/status: must be one of \"STARTED\", \"FAILURE\""),
    ] {
        let attempted = event.attempt().unwrap();
        // The same from outside is refused, unless it lacks only what may be absent.
        assert_eq!(snapshot.prepare(attempted.draft.clone(), now).is_ok(), attempted.failure.is_some());
        let prepared = snapshot.prepare_attempted(attempted, now).unwrap();
        assert_eq!(prepared.quarantined.as_deref(), Some(why));
        assert_eq!(prepared.owed, [SubscriptionId(7)]);
        assert!(prepared.payloads.notification().is_some() && !prepared.payloads.has_telemetry());
    }
    let whole = failed("P".into(), "STARTED", How::Not).attempt().unwrap();
    let prepared = snapshot.prepare_attempted(whole.clone(), now).unwrap();
    assert_eq!(prepared, snapshot.prepare(whole.draft, now).unwrap());
    assert!(prepared.quarantined.is_none() && prepared.payloads.has_telemetry());
}

#[test]
fn a_name_that_is_said_twice_and_a_place_that_is_taken_are_failures() {
    struct Taken(Project);
    impl Layer for Taken {
        const NAME: &'static str = "project:taken";
        const AT: Option<&'static str> = Some("project.name");
        type Parent = Project;
        fn parent(&self) -> &Project {
            &self.0
        }
        fn fields() -> Vec<FieldDeclaration> {
            Vec::new()
        }
        fn values(&self) -> Result<Values, Unbuilt> {
            Ok(Values::new())
        }
    }
    let project = || Project { uuid: "P".into() };
    let taken = Taken(project()).properties();
    assert_eq!(taken, Err(Unbuilt("project:taken: something else stands at its place, project.name".into())));
    struct Twice(Project);
    impl Layer for Twice {
        const NAME: &'static str = "project:twice";
        const AT: Option<&'static str> = Some("project");
        type Parent = Project;
        fn parent(&self) -> &Project {
            &self.0
        }
        fn fields() -> Vec<FieldDeclaration> {
            Vec::new()
        }
        fn values(&self) -> Result<Values, Unbuilt> {
            values([("name", "other".into())])
        }
    }
    let twice = Twice(project()).properties();
    assert_eq!(twice, Err(Unbuilt("project:twice: \"name\" at \"project\" is said twice".into())));
}

#[test]
fn a_type_without_a_layer_stands_at_the_top() {
    struct Ping;
    impl Event for Ping {
        const TYPE: &'static str = "ping";
        type Layer = Root;
        fn layer(&self) -> &Root {
            &Root
        }
        fn fields() -> Vec<FieldDeclaration> {
            vec![field("ok", FieldKind::Boolean, Rule::Keep)]
        }
        fn values(&self) -> Result<Values, Unbuilt> {
            values([("ok", true.into())])
        }
    }
    let expected = r#"{"event":"ping","event_properties":{"ok":true},"derived_properties":{}}"#;
    assert_eq!(Ping.to_telemetry().unwrap(), expected);
    assert_eq!(Ping.attempt().unwrap().draft.event_type, EventType::parse("ping").unwrap());
}
