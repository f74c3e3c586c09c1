use std::{
    fs,
    path::{Path, PathBuf},
    slice,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{sync::mpsc::Receiver, time::timeout};

use super::*;

async fn next(receiver: &mut Receiver<Which>) -> Which {
    timeout(Duration::from_secs(5), receiver.recv()).await.expect("a change is told").expect("the watch lives")
}

async fn none(receiver: &mut Receiver<Which>) {
    let told = timeout(Duration::from_millis(300), receiver.recv()).await;
    assert!(told.is_err(), "nothing is told, not {told:?}");
}

fn only(paths: &[&Path]) -> Which {
    Which::Only(paths.iter().map(|path| path.to_path_buf()).collect())
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

#[tokio::test]
async fn files_written_renamed_and_deleted_in_a_folder_are_told() {
    let (_keep, folder) = folder();
    let (a, b) = (folder.join("a.jsonl"), folder.join("b.jsonl"));
    let mut receiver = watch(slice::from_ref(&folder)).unwrap();
    fs::write(&a, "x").unwrap();
    assert_eq!(next(&mut receiver).await, only(&[&a]));
    fs::rename(&a, &b).unwrap();
    assert_eq!(next(&mut receiver).await, only(&[&a, &b]));
    fs::read(&b).unwrap();
    fs::write(folder.join("notes.txt"), "x").unwrap();
    fs::write(folder.join(".b.jsonl"), "x").unwrap();
    none(&mut receiver).await;
    fs::remove_file(&b).unwrap();
    assert_eq!(next(&mut receiver).await, only(&[&b]));
}

#[tokio::test]
async fn a_single_file_is_followed_over_a_rename() {
    let (_keep, folder) = folder();
    let (file, new) = (folder.join("orders"), folder.join("orders.new"));
    fs::write(&file, "x").unwrap();
    let mut receiver = watch(slice::from_ref(&file)).unwrap();
    for content in ["y", "z"] {
        fs::write(&new, content).unwrap();
        fs::rename(&new, &file).unwrap();
        assert_eq!(next(&mut receiver).await, only(&[&file]));
    }
    none(&mut receiver).await;
}

#[tokio::test]
async fn a_folder_that_comes_back_is_read_whole() {
    let (_keep, parent) = folder();
    let folder = parent.join("orders");
    let file = folder.join("a.jsonl");
    fs::create_dir(&folder).unwrap();
    let mut receiver = watch(slice::from_ref(&folder)).unwrap();
    fs::remove_dir(&folder).unwrap();
    while next(&mut receiver).await != Which::All {}
    fs::create_dir(&folder).unwrap();
    while next(&mut receiver).await != Which::All {}
    fs::write(&file, "x").unwrap();
    assert_eq!(next(&mut receiver).await, only(&[&file]));
}
