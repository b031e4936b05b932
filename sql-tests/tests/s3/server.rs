//! What the other tests here rely on: the server does what S3 does.

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use futures::future::join_all;
use meshwork_sql_tests::servers::S3;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    PutResult, UpdateVersion,
};

const N_WRITERS: u8 = 8;
const N_ROUNDS: usize = 20;

/// So much that writers meet each other in the middle.
const BODY_BYTES: usize = 200_000;

/// More than one page of a listing holds.
const N_OBJECTS: usize = 2100;

/// The least that a part may have, if it is not the last.
const PART_BYTES: usize = 5 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_create_a_name_one_wins() -> Result<()> {
    let server = S3::start()?;
    let store = client(&server).build()?;
    for round in 0..N_ROUNDS {
        let name = Path::from(format!("race/{round}"));
        let writers = (0..N_WRITERS)
            .map(|writer| put(&store, &name, vec![writer; BODY_BYTES], PutMode::Create));
        let outcomes = join_all(writers).await;
        let winner = only_winner(&outcomes)?;
        let stored = store.get(&name).await?.bytes().await?;
        assert!(stored.iter().all(|byte| *byte == winner), "round {round}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_change_what_they_read_one_wins() -> Result<()> {
    let server = S3::start()?;
    let store = client(&server).build()?;
    let name = Path::from("counter");
    let mut read = store.put(&name, PutPayload::from_static(b"first")).await?;
    for round in 0..N_ROUNDS {
        let version = UpdateVersion { e_tag: read.e_tag.clone(), version: None };
        // Never the same content twice: what was read would be there again.
        let body = |writer| [vec![writer; BODY_BYTES], round.to_be_bytes().to_vec()].concat();
        let update = |writer| put(&store, &name, body(writer), PutMode::Update(version.clone()));
        let mut outcomes = join_all((0..N_WRITERS).map(update)).await;
        let winner = only_winner(&outcomes)?;
        read = outcomes.swap_remove(usize::from(winner))?;
    }
    Ok(())
}

#[tokio::test]
async fn parts_are_one_object_or_none() -> Result<()> {
    let server = S3::start()?;
    let store = client(&server).build()?;
    let name = Path::from("parts/whole");
    let mut upload = store.put_multipart(&name).await?;
    upload.put_part(vec![1; PART_BYTES].into()).await?;
    upload.put_part(vec![2; 10].into()).await?;
    assert_eq!(server.n_unfinished_uploads()?, 1);
    assert!(matches!(store.head(&name).await, Err(Error::NotFound { .. })));
    upload.complete().await?;
    let start = PART_BYTES as u64 - 1;
    assert_eq!(store.get_range(&name, start..start + 3).await?.as_ref(), [1, 2, 2]);
    let last = GetOptions { range: Some(GetRange::Suffix(2)), ..GetOptions::default() };
    assert_eq!(store.get_opts(&name, last).await?.bytes().await?.as_ref(), [2, 2]);

    let mut upload = store.put_multipart(&Path::from("parts/none")).await?;
    upload.put_part(vec![1; PART_BYTES].into()).await?;
    upload.abort().await?;
    assert_eq!(server.n_unfinished_uploads()?, 0);
    let left: Vec<_> = store.list(Some(&Path::from("parts"))).try_collect().await?;
    assert_eq!(left.len(), 1);
    Ok(())
}

#[tokio::test]
async fn listings_go_on_over_their_pages() -> Result<()> {
    let server = S3::start()?;
    let store = client(&server).build()?;
    for number in 0..N_OBJECTS {
        std::fs::write(server.object(&format!("many/{number:04}/x"))?, [])?;
    }
    std::fs::write(server.object("many/last")?, [])?;
    std::fs::write(server.object("manyfold")?, [])?;
    let many = Path::from("many");
    let all: Vec<_> = store.list(Some(&many)).map_ok(|o| o.location).try_collect().await?;
    assert_eq!(all.len(), N_OBJECTS + 1);
    assert!(all.is_sorted());
    let folders = store.list_with_delimiter(Some(&many)).await?;
    assert_eq!((folders.common_prefixes.len(), folders.objects.len()), (N_OBJECTS, 1));
    let from = Path::from(format!("many/{:04}/x", N_OBJECTS - 3));
    let rest: Vec<_> = store.list_with_offset(Some(&many), &from).try_collect().await?;
    assert_eq!(rest.len(), 3);
    Ok(())
}

#[tokio::test]
async fn strangers_and_missing_buckets_are_refused() -> Result<()> {
    let server = S3::start()?;
    let name = Path::from("x");
    let strangers: [fn(AmazonS3Builder) -> AmazonS3Builder; 3] = [
        |client| client.with_secret_access_key("guessed"),
        |client| client.with_access_key_id("nobody"),
        |client| client.with_skip_signature(true),
    ];
    for change in strangers {
        let stranger = change(client(&server)).build()?;
        let refused = stranger.put(&name, PutPayload::new()).await;
        assert!(matches!(refused, Err(Error::PermissionDenied { .. })), "{refused:?}");
        assert!(stranger.list(None).try_next().await.is_err());
    }
    assert!(!server.object("x")?.exists());
    let nowhere = client(&server).with_bucket_name("nowhere").build()?;
    for error in [
        nowhere.put(&name, PutPayload::new()).await.err(),
        nowhere.get(&name).await.err(),
        nowhere.list(None).try_next().await.err(),
    ] {
        let error = error.context("the bucket is not there")?;
        assert!(error.to_string().contains("NoSuchBucket"), "{error}");
    }
    Ok(())
}

fn client(server: &S3) -> AmazonS3Builder {
    let properties = server.properties("");
    AmazonS3Builder::new()
        .with_endpoint(server.url())
        .with_allow_http(true)
        .with_bucket_name(server.bucket())
        .with_access_key_id(&properties["access_key_id"])
        .with_secret_access_key(&properties["secret_access_key"])
}

async fn put(
    store: &AmazonS3,
    name: &Path,
    body: Vec<u8>,
    mode: PutMode,
) -> object_store::Result<PutResult> {
    store.put_opts(name, body.into(), PutOptions::from(mode)).await
}

/// Returns which of the writers won; the others must have been told that they did not.
fn only_winner(outcomes: &[object_store::Result<PutResult>]) -> Result<u8> {
    let mut winners = (0..).zip(outcomes).filter(|(_, outcome)| outcome.is_ok());
    let (winner, _) = winners.next().context("nobody won")?;
    ensure!(winners.next().is_none(), "several won: {outcomes:?}");
    for lost in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        let is_verdict = matches!(lost, Error::AlreadyExists { .. } | Error::Precondition { .. });
        ensure!(is_verdict, "{lost:?}");
    }
    Ok(winner)
}
