//! Who gets a place at a host, on a paused clock: turns by subscription, and none that waits for another's flood.

use super::*;
use crate::http::Target;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use std::pin::pin;

fn of(url: &str, open_per_host_max: usize) -> (Pool, Target) {
    (Pool::new(Bounds { open_per_host_max, ..Bounds::default() }), Target::parse(url).unwrap())
}

/// Gives a place back, as an exchange does.
fn leave((way, held): (Way, Held)) {
    drop(held);
    drop(way);
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_before_who_comes_later_and_not_for_ever() {
    let ((pool, target), party) = (of("http://a.example/", 1), Party::default());
    let way = || pool.way(target.origin(), &party);
    let open = way().await.ok().unwrap();
    let (mut first, mut second) = (pin!(way()), pin!(way()));
    assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
    leave(open);
    let mut newcomer = pin!(way());
    assert!(newcomer.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
    let Some(Ok(_open)) = first.now_or_never() else { panic!("the first did not go first") };
    assert_eq!(second.await.err(), Some(QUEUE_TIME_MAX));
    assert_eq!(newcomer.await.err(), Some(QUEUE_TIME_MAX));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_called_and_gives_up_calls_the_next() {
    let ((pool, target), party) = (of("http://a.example/", 1), Party::default());
    let way = || pool.way(target.origin(), &party);
    let open = way().await.ok().unwrap();
    let (mut first, mut second) = (Box::pin(way()), pin!(way()));
    assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
    leave(open);
    drop(first);
    assert!(matches!(second.now_or_never(), Some(Ok(_))));
}

/// Who got a place, in which order, where one of `count` parties each asks for `wants[n]` and all wait behind another.
async fn order(wants: &[usize], parties: &[Party]) -> Vec<usize> {
    let (pool, target) = of("http://a.example/", 1);
    let (stranger, got) = (Party::default(), Mutex::new(Vec::new()));
    let open = pool.way(target.origin(), &stranger).await.ok().unwrap();
    let asked = wants.iter().enumerate().flat_map(|(who, count)| std::iter::repeat_n(who, *count));
    let all = asked.map(|who| {
        let (pool, target, got) = (&pool, &target, &got);
        async move {
            let way = pool.way(target.origin(), &parties[who]).await.ok().unwrap();
            got.lock().unwrap().push(who);
            sleep(Duration::from_secs(1)).await;
            leave(way);
        }
    });
    let first = async {
        sleep(Duration::from_secs(1)).await;
        leave(open);
    };
    tokio::join!(join_all(all), first);
    got.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn places_go_in_turn_to_the_subscriptions_that_wait() {
    let wants = [5, 2, 1];
    let each: Vec<_> = (0..3).map(|_| Party::default()).collect();
    assert_eq!(order(&wants, &each).await, [0, 1, 2, 0, 1, 0, 0, 0]);
    // The control: where all are one, the flood goes first.
    let one = vec![Party::default(); 3];
    assert_eq!(order(&wants, &one).await, [0, 0, 0, 0, 0, 1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_becomes_free_is_for_the_subscription_that_holds_the_fewest_and_waits() {
    let (pool, target) = of("http://a.example/", 4);
    let (flood, other) = (Party::default(), Party::default());
    // Alone it has all that there are.
    let mut held: Vec<_> =
        (0..4).map(|_| pool.way(target.origin(), &flood).now_or_never().unwrap().ok().unwrap()).collect();
    let mut more: Vec<_> = (0..4).map(|_| Box::pin(pool.way(target.origin(), &flood))).collect();
    let mut others: Vec<_> = (0..3).map(|_| Box::pin(pool.way(target.origin(), &other))).collect();
    assert!(more.iter_mut().chain(&mut others).all(|one| one.now_or_never().is_none()));
    let mut got = Vec::new();
    for _ in 0..2 {
        leave(held.pop().unwrap());
        got.push(others.remove(0).now_or_never().unwrap().ok().unwrap());
        assert!(more.iter_mut().chain(&mut others).all(|one| one.now_or_never().is_none()));
    }
    // Each holds two now, so what the flood gives back is its own.
    leave(held.pop().unwrap());
    let back = more.remove(0).now_or_never().unwrap();
    assert!(back.is_ok() && others[0].as_mut().now_or_never().is_none());
}

/// How long the requests of 99 subscriptions waited at most, each with one a second that is answered after 100 ms, beside
/// one with 3,000 at once that are answered after 5 s each; and how many were answered before the flood was over.
async fn beside_a_flood(party: impl Fn(usize) -> Party) -> (Duration, usize) {
    let (pool, target) = of("http://a.example/", 256);
    let (pool, target, seen) = (&pool, &target, &Mutex::new((Duration::ZERO, 0)));
    let request = async |party: &Party, takes| {
        let began = Instant::now();
        let Ok(way) = pool.way(target.origin(), party).await else { return QUEUE_TIME_MAX };
        let waited = began.elapsed();
        sleep(takes).await;
        leave(way);
        waited
    };
    let flood = party(0);
    let flooding = join_all((0..3_000).map(|_| request(&flood, Duration::from_secs(5))));
    let others = join_all((1..100).map(|who| {
        let party = party(who);
        async move {
            for n in 0..20 {
                sleep(Duration::from_millis(if n == 0 { u64::try_from(who).unwrap() * 10 } else { 900 })).await;
                let waited = request(&party, Duration::from_millis(100)).await;
                let mut seen = seen.lock().unwrap();
                *seen = (waited.max(seen.0), seen.1 + 1);
            }
        }
    }));
    futures_util::future::select(pin!(others), pin!(flooding)).await;
    *seen.lock().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_slow_requests_keeps_no_other_subscription_waiting() {
    let (worst, answered) = beside_a_flood(|_| Party::default()).await;
    assert!(worst <= Duration::from_millis(100) && answered == 99 * 20, "{worst:?}, {answered}");
    // The control: as one subscription they wait behind the flood.
    let one = Party::default();
    let (worst, _) = beside_a_flood(|_| one.clone()).await;
    assert!(worst >= Duration::from_secs(30), "{worst:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_in_turn_once_it_is_known_that_nothing_can_be_shared() {
    let ((pool, target), party) = (of("https://a.example/", 9), Party::default());
    let origin = target.origin();
    let dial = async || match pool.way(origin, &party).await {
        Ok((Way::Dial(dial), _)) => dial,
        _ => panic!("no room"),
    };
    let Way::Dial(first) = pool.in_turn(origin, dial().await).await else { panic!("nothing is kept") };
    assert!(first.turn.is_some());
    let mut second = pin!(pool.in_turn(origin, dial().await));
    assert!(second.as_mut().now_or_never().is_none());
    let (_slot, turn) = first.into_parts();
    pool.opened(origin, None, turn);
    let Way::Dial(second) = second.await else { panic!("nothing is kept") };
    assert!(second.turn.is_none());
}
