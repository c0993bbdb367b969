use std::collections::BTreeMap;

use super::super::index::{Index, NOWHERE};
use crate::rng::Rng;

/// All that was inserted is found, and nothing else, however hashes collide.
#[test]
fn slots_are_found_until_they_are_removed() {
    let mut rng = Rng::seeded(3);
    for hashes in [1_usize, 3, 40, 1 << 30] {
        let mut index = Index::new();
        let mut model: BTreeMap<u32, u32> = BTreeMap::new();
        let mut free: Vec<u32> = (0..600).rev().collect();
        for _ in 0..20_000 {
            if rng.below(100) < 52
                && let Some(slot) = free.pop()
            {
                if model.len() == index.limit() {
                    index.grow((2 * model.len()).max(16), model.iter().map(|(slot, hash)| (*slot, *hash)));
                }
                let hash = u32::try_from(rng.below(hashes)).unwrap().wrapping_mul(0x9e37_79b9);
                index.insert(hash, slot);
                model.insert(slot, hash);
            } else if let Some((&slot, _)) = model.range(free.last().copied().unwrap_or(0)..).next() {
                index.remove(model[&slot], slot);
                model.remove(&slot);
                free.push(slot);
            }
            assert_eq!(index.count(), model.len());
        }
        for (slot, hash) in &model {
            let mut found = Vec::new();
            let none = index.find(*hash, |slot| -> Option<()> {
                found.push(slot);
                None
            });
            assert!(none.is_none() && found.contains(slot));
        }
        index.grow(600, std::iter::empty());
        assert_eq!((index.count(), index.hint(0)), (0, NOWHERE));
    }
}

#[test]
fn a_flood_of_one_hash_is_found() {
    let mut index = Index::new();
    let most = 5000;
    index.grow(most as usize, (0..most).map(|slot| (slot, 7)));
    (0..most).step_by(1000).for_each(|slot| index.remove(7, slot));
    for slot in (1..most).step_by(97).filter(|slot| slot % 1000 != 0) {
        assert_eq!(index.find(7, |found| (found == slot).then_some(found)), Some(slot));
    }
}

/// An empty place can look like one with the tag 1.
#[test]
fn an_empty_place_is_not_taken_for_slot_0() {
    let mut index = Index::new();
    index.grow(9, std::iter::empty());
    // In one bucket, those of tag 1 below and above empty places.
    (0..9).for_each(|slot| index.insert(1, slot));
    for slot in [1, 3, 5, 7, 2, 4, 0, 6, 8] {
        let before = index.count();
        index.remove(1, slot);
        assert_eq!(index.count(), before - 1);
        assert_eq!(index.find(1, |found| (found == slot && before == 0).then_some(())), None);
    }
    assert_eq!(index.hint(1), NOWHERE);
}
