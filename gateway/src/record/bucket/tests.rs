//! The bucket over a store in memory.

use object_store::memory::InMemory;

use super::*;

const FREE: Protection = Protection {
    retain_until: None,
    held: false,
};

fn bucket() -> Bucket {
    Bucket::over(Arc::new(InMemory::new()), "some/where", Duration::from_secs(5))
}

#[tokio::test]
async fn nothing_is_ever_replaced() {
    let bucket = bucket();
    bucket.create("day/a", Bytes::from_static(b"one"), &FREE).await.unwrap();
    // The same again: what an answer that was lost on its way looks like.
    bucket.create("day/a", Bytes::from_static(b"one"), &FREE).await.unwrap();
    for other in ["two", "longer"] {
        let refused = bucket
            .create("day/a", Bytes::from_static(other.as_bytes()), &FREE)
            .await;
        assert_eq!(refused, Err(BucketError::Conflict("day/a".to_owned())));
    }
    assert_eq!(bucket.read("day/a").await.unwrap().unwrap(), "one");
    assert_eq!(bucket.read("day/b").await.unwrap(), None);
}

#[tokio::test]
async fn names_are_below_the_prefix() {
    let bucket = bucket();
    for name in ["2026-01-02/x/segment-000000.dwr", "2026-01-03/y/session.json"] {
        bucket.create(name, Bytes::from_static(b"1234"), &FREE).await.unwrap();
    }
    assert_eq!(bucket.folders().await.unwrap(), ["2026-01-02", "2026-01-03"]);
    let listed = bucket.list("2026-01-02/x").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&*listed[0].name, listed[0].size),
        ("2026-01-02/x/segment-000000.dwr", 4)
    );
    assert_eq!(bucket.list("2026-01-04").await.unwrap(), []);
}

#[tokio::test]
async fn an_index_is_replaced_and_a_large_file_goes_in_parts() {
    let bucket = bucket();
    bucket.replace("i", Bytes::from_static(b"1")).await.unwrap();
    bucket.replace("i", Bytes::from_static(b"2")).await.unwrap();
    assert_eq!(bucket.read("i").await.unwrap().unwrap(), "2");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("large");
    let bytes: Vec<u8> = (0..PART * 2 + 5).map(|n| (n / 3) as u8).collect();
    std::fs::write(&file, &bytes).unwrap();
    let len = PART * 2 + 1;
    bucket.create_from("large", &file, len, &FREE).await.unwrap();
    let whole = digest::digest(&SHA256, &bytes[..len as usize]);
    bucket.compare("large", whole.as_ref(), len).await.unwrap();
    assert!(bucket.compare("large", &[0; 32], len).await.is_err());
}
