use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    slice,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{sync::mpsc::Receiver, time::timeout};

use super::*;

/// The next change that is told.
async fn next(receiver: &mut Receiver<Which>) -> Which {
    loop {
        let told = recv(receiver).await;
        if told != only(&[]) {
            return told;
        }
    }
}

async fn recv(receiver: &mut Receiver<Which>) -> Which {
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
    let mut receiver = watch(&Files::native(slice::from_ref(&folder))).unwrap();
    fs::write(&a, "x").unwrap();
    assert_eq!(next(&mut receiver).await, only(&[&a]));
    fs::rename(&a, &b).unwrap();
    assert_eq!(next(&mut receiver).await, only(&[&a, &b]));
    fs::read(&b).unwrap();
    fs::write(folder.join("README.md"), "x").unwrap();
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
    let mut receiver = watch(&Files::native(slice::from_ref(&file))).unwrap();
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
    let mut receiver = watch(&Files::native(slice::from_ref(&folder))).unwrap();
    fs::remove_dir(&folder).unwrap();
    while next(&mut receiver).await != Which::All {}
    fs::create_dir(&folder).unwrap();
    while next(&mut receiver).await != Which::All {}
    fs::write(&file, "x").unwrap();
    assert_eq!(next(&mut receiver).await, only(&[&file]));
}

#[tokio::test]
async fn a_folder_made_anew_at_once_is_watched_again() {
    let (_keep, parent) = folder();
    let folder = parent.join("orders");
    let file = folder.join("a.jsonl");
    fs::create_dir(&folder).unwrap();
    let mut receiver = watch(&Files::native(slice::from_ref(&folder))).unwrap();
    // Several times, since the inode is not always the same.
    for content in ["1", "22", "333"] {
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        while next(&mut receiver).await != Which::All {}
        fs::write(&file, content).unwrap();
        let written = Instant::now();
        assert_eq!(next(&mut receiver).await, only(&[&file]));
        assert!(written.elapsed() < Duration::from_millis(500), "told by inotify, not by a look");
    }
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_and_a_file_written_behind_one_are_told() {
    let (_keep, parent) = folder();
    let orders = parent.join("orders");
    fs::create_dir(&orders).unwrap();
    for (version, content) in [("v1", "x"), ("v2", "y")] {
        fs::create_dir(parent.join(version)).unwrap();
        fs::write(parent.join(version).join("a.jsonl"), content).unwrap();
    }
    // As Kubernetes mounts a ConfigMap.
    symlink(parent.join("v1"), orders.join("..data")).unwrap();
    let file = orders.join("a.jsonl");
    symlink("..data/a.jsonl", &file).unwrap();
    let mut receiver = watch(&Files::native(slice::from_ref(&orders))).unwrap();
    symlink(parent.join("v2"), orders.join("..new")).unwrap();
    fs::rename(orders.join("..new"), orders.join("..data")).unwrap();
    assert_eq!(next(&mut receiver).await, only(&[&file]));
    fs::write(parent.join("v2").join("a.jsonl"), "longer").unwrap();
    assert_eq!(next(&mut receiver).await, only(&[&file]));
    fs::remove_file(parent.join("v2").join("a.jsonl")).unwrap();
    assert_eq!(next(&mut receiver).await, only(&[&file]));
}

#[tokio::test]
async fn a_second_look_is_told_after_a_change() {
    let (_keep, folder) = folder();
    let file = folder.join("a.jsonl");
    fs::write(&file, "x").unwrap();
    let mut receiver = watch(&Files::native(slice::from_ref(&folder))).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(recv(&mut receiver).await, only(&[&file]));
    let told = Instant::now();
    assert_eq!(recv(&mut receiver).await, only(&[]));
    assert!((2000..4000).contains(&told.elapsed().as_millis()), "{:?}", told.elapsed());
}
