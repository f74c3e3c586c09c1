//! A full table: the error names order and limit, and what was in force stays so.

use super::*;
use crate::policy::CapacityError;

/// A compiler with little room, order `a` in force, and what a fresh one would say.
fn small(limits: Limits) -> (Compiler, Changes) {
    let mut compiler = Compiler::new(scopes(), [], limits);
    compiler.put(&order("a", &["x.net"])).unwrap();
    compiler.commit().unwrap();
    let whole = compiler.whole();
    (compiler, whole)
}

#[test]
fn too_many_orders() {
    let (mut compiler, before) = small(Limits { orders: 2, ..LIMITS });
    compiler.put(&order("b", &["b.x.net"])).unwrap();
    compiler.put(&order("c", &["c.x.net"])).unwrap();
    for _ in 0..2 {
        assert_eq!(compiler.commit(), Err(CapacityError::Orders { order: "c".to_owned(), limit: 2 }));
        assert_eq!(compiler.whole(), before);
    }
    compiler.revoke("c").unwrap();
    let changes = compiler.commit().unwrap();
    assert_eq!(changes.insert.len(), 1);
    assert_eq!(changes.orders[0].1.id, "b");
}

#[test]
fn too_many_policies() {
    let (mut compiler, before) = small(Limits { policies: 4, ..LIMITS });
    compiler.put(&order("b", &["b.x.net", "c.b.x.net"])).unwrap();
    for _ in 0..2 {
        assert_eq!(compiler.commit(), Err(CapacityError::Policies { order: "b".to_owned(), limit: 4 }));
        assert_eq!(compiler.whole(), before);
    }
    compiler.remove_names("b", &[name("c.b.x.net")]).unwrap();
    assert_eq!(compiler.commit().unwrap().insert.len(), 1);
}

#[test]
fn too_many_names() {
    let (mut compiler, before) = small(Limits { names: 3, ..LIMITS });
    compiler.put(&order("b", &["b.net", "c.net", "d.net"])).unwrap();
    for _ in 0..2 {
        assert_eq!(compiler.commit(), Err(CapacityError::Names { order: Some("b".to_owned()), limit: 3 }));
        assert_eq!(compiler.whole(), before);
    }
    compiler.remove_names("b", &[name("d.net")]).unwrap();
    assert_eq!(compiler.commit().unwrap().insert.len(), 2);
}

#[test]
fn old_and_new_names_are_in_the_table_together() {
    let (mut compiler, before) = small(Limits { names: 1, ..LIMITS });
    compiler.put(&order("a", &["y.net"])).unwrap();
    assert_eq!(compiler.commit(), Err(CapacityError::Names { order: Some("a".to_owned()), limit: 1 }));
    assert_eq!(compiler.whole(), before);
}
