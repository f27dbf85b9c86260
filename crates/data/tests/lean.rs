//! Lean files come apart into their commands and together again; theorems are found with statement and proof.

use cwm_data::scrub::Scrubber;
use cwm_data::text::lean::{LeanProof, LeanStep, LeanTranslation, split, steps, theorems};
use cwm_data::text::{Content, Document, Harvest, Material, Origin, Skip};
use proptest::prelude::*;

const FILE: &str = r#"/-
Copyright. theorem not_here : False := sorry
-/
import Mathlib.Data.Nat.Basic
import Init

/-! # Things about numbers /- nested -/ theorem -/

open Nat
universe u v

namespace Foo

variable {α : Type u} (n : Nat)

/-- Adding nothing changes nothing. -/
@[simp, to_additive "theorem"]
theorem add_nothing (n : Nat) (h : n = n := rfl) : n + 0 = n := by
  -- a comment at the margin follows
-- theorem fake
  have h : n = n := rfl
  simp

section Inner
open scoped BigOperators in
private lemma bars (x : Int) :
    |x| ≤ 1 →
    |x| ≤ 2 :=
  fun h => le_trans h (by decide)

theorem cases' : ∀ n : Nat, 0 ≤ n
  | 0 => le_refl 0
  | n + 1 => by
    have := cases' n
    omega
end Inner

theorem uses_let : let x := 1; x = 1 := rfl

theorem _root_.Bar.«odd name» : 'a' = 'a' ∧ "--\"" ≠ "theorem" := ⟨rfl, by decide⟩

def double (n : Nat) : Nat := n + n

/-- Open. -/
theorem gap : 1 = 1 := by
  sorry

instance : Inhabited Nat where
  default := 0

axiom unproved : 1 = 2

theorem needs_help (n : Nat) : helper n = n := helped n
where
  helped (n : Nat) : helper n = n := rfl

end Foo

#check Foo.double

variable (n) in
/-- Trivially so. -/
@[simp]
protected theorem Foo.after_in : n = n := by rfl
initialize_simps_projections Foo (a → b)

lemma by_term : True :=
and_true_iff_of x
termination_by x
theorem last : True := trivial"#;

fn material() -> Material {
    Material {
        licence: "Apache-2.0".into(),
        origin: Origin {
            project: "numbers".into(),
            version: "1".into(),
            path: "Numbers.lean".into(),
        },
    }
}

fn found(source: &str) -> Harvest {
    theorems(source, &material(), 50_000, &Scrubber::default())
}

fn proofs(harvest: &Harvest) -> Vec<&LeanProof> {
    let proof = |document: &'_ Document| matches!(document.content, Content::LeanProof(_));
    let proofs = harvest.documents.iter().filter(|document| proof(document));
    proofs
        .map(|document| match &document.content {
            Content::LeanProof(proof) => proof,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_file_comes_apart_into_its_commands() {
    let pieces = split(FILE);
    let keywords: Vec<&str> = pieces.iter().map(|piece| piece.keyword).collect();
    assert_eq!(
        keywords,
        [
            "import",
            "import",
            "open",
            "universe",
            "namespace",
            "variable",
            "theorem",
            "section",
            "lemma",
            "theorem",
            "end",
            "theorem",
            "theorem",
            "def",
            "theorem",
            "instance",
            "axiom",
            "theorem",
            "end",
            "",
            "theorem",
            "",
            "lemma",
            "theorem"
        ]
    );
    assert!(pieces[6].text.starts_with("/-- Adding") && pieces[6].text.ends_with("  simp\n\n"));
    let whole: String = pieces.iter().map(|piece| piece.text).collect();
    assert_eq!(whole, FILE);
}

#[test]
fn theorems_have_names_statements_and_proofs() {
    let harvest = found(FILE);
    let proofs = proofs(&harvest);
    let names: Vec<&str> = proofs.iter().map(|proof| &*proof.name).collect();
    assert_eq!(
        names,
        [
            "Foo.add_nothing",
            "Foo.bars",
            "Foo.cases'",
            "Foo.uses_let",
            "Bar.«odd name»",
            "Foo.needs_help",
            "Foo.after_in",
            "by_term",
            "last"
        ]
    );
    let starts: Vec<&str> = proofs
        .iter()
        .map(|p| p.proof.lines().next().unwrap_or(""))
        .collect();
    assert_eq!(
        starts,
        [
            ":= by",
            ":=",
            "| 0 => le_refl 0",
            ":= rfl",
            ":= ⟨rfl, by decide⟩",
            ":= helped n",
            ":= by rfl",
            ":=",
            ":= trivial"
        ]
    );
    for proof in &proofs {
        // Together they are a part of the file.
        let whole = format!("{}{}", proof.statement, proof.proof);
        assert!(FILE.contains(whole.trim_end()), "{whole}");
    }
    assert_eq!(
        proofs[1].context,
        "import Mathlib.Data.Nat.Basic\nimport Init\nopen Nat\nuniverse u v\nnamespace Foo\n\
         variable {α : Type u} (n : Nat)\nsection Inner\n"
    );
    assert!(
        proofs[1]
            .statement
            .starts_with("open scoped BigOperators in\nprivate lemma bars")
    );
    assert_eq!(
        proofs[8].context,
        "import Mathlib.Data.Nat.Basic\nimport Init\nopen Nat\nuniverse u v\n"
    );
    let skipped: Vec<_> = harvest.skipped.iter().collect();
    assert_eq!(skipped, [(Skip::Unfinished, 1)]);
}

#[test]
fn words_before_a_theorem_are_its_translation() {
    let harvest = found(FILE);
    let translations: Vec<&LeanTranslation> = harvest
        .documents
        .iter()
        .filter_map(|document| match &document.content {
            Content::LeanTranslation(translation) => Some(translation),
            _ => None,
        })
        .collect();
    assert_eq!(translations.len(), 3);
    assert_eq!(
        translations[0].informal,
        "Adding nothing changes nothing.\n"
    );
    assert!(
        translations[0]
            .formal
            .ends_with("(h : n = n := rfl) : n + 0 = n\n")
    );
    assert_eq!(translations[1].formal, "theorem gap : 1 = 1\n");
    assert_eq!(translations[2].informal, "Trivially so.\n");
    assert_eq!(translations[2].formal, "theorem Foo.after_in : n = n\n");
}

const STEPS: &str = r#"{"theorem": "a.b", "state_before": "n : Nat\n⊢ n = n", "tactic": "rfl", "state_after": "no goals"}

{"theorem": "a.b", "state_before": "n : Nat\n⊢ n = n", "tactic": "rfl", "state_after": "no goals"}
{"theorem": "a.b", "state_before": "⊢ True", "tactic": "trivial", "state_after": ""}
{"theorem": "a.b", "state_before": "⊢ True", "tactic": "trivial", "state_after": "no goals", "x": 1}
{"theorem": "a.b", "state_before": "⊢ f \"a.b@corp.io\" = 1", "tactic": "simp", "state_after": "no goals"}
[1]
{"theorem": "a.b", "state_before": "⊢ True ∧ True", "tactic": "constructor", "state_after": "⊢ True\n\n⊢ True"}
"#;

#[test]
fn steps_are_read_from_json_lines() {
    let harvest = steps(STEPS.as_bytes(), &material(), &Scrubber::default()).expect("a reader");
    let ids: Vec<&str> = harvest
        .documents
        .iter()
        .filter_map(|d| d.id.rsplit(':').next())
        .collect();
    assert_eq!(ids, ["1", "8"]);
    let skipped: Vec<_> = harvest.skipped.iter().collect();
    assert_eq!(
        skipped,
        [
            (Skip::Private, 1),
            (Skip::Malformed, 3),
            (Skip::Repeated, 1)
        ]
    );
}

#[test]
fn renderings_and_json_are_read_back() {
    let mut documents = found(FILE).documents;
    let more = steps(STEPS.as_bytes(), &material(), &Scrubber::default());
    documents.extend(more.expect("a reader").documents);
    assert_eq!(documents.len(), 14);
    for document in &documents {
        let text = document.render();
        let read = match &document.content {
            Content::LeanProof(_) => LeanProof::parse(&text).map(Content::LeanProof),
            Content::LeanTranslation(_) => {
                LeanTranslation::parse(&text).map(Content::LeanTranslation)
            }
            Content::LeanStep(_) => LeanStep::parse(&text).map(Content::LeanStep),
            other => panic!("{other:?}"),
        };
        assert_eq!(read.as_ref(), Ok(&document.content), "{text}");
        let json = serde_json::to_string(document).expect("JSON");
        assert_eq!(
            &serde_json::from_str::<Document>(&json).expect("JSON"),
            document
        );
    }
}

#[test]
fn files_without_theorems_are_counted() {
    assert_eq!(found("def x := 1\n"), Harvest::nothing(Skip::Empty));
    assert_eq!(found(""), Harvest::nothing(Skip::Empty));
    let long = "-- x\n".repeat(20_000);
    assert_eq!(found(&long), Harvest::nothing(Skip::TooLarge));
    let nameless = found("theorem : True := trivial\n");
    assert_eq!(nameless, Harvest::nothing(Skip::NoDescription));
}

proptest! {
    #[test]
    fn any_text_comes_together_again(text in "(theorem |lemma a : b := by\n|namespace X\n|end X\n|/-|-/|--|\"|'|\\\\|r#\"|@\\[|\\]|open X in\n|private |\\| 0 => |:=|let |where|«|»|\n|  |é|⟨|\\PC){0,40}") {
        let whole: String = split(&text).iter().map(|piece| piece.text).collect();
        prop_assert_eq!(&whole, &text);
        for document in found(&text).documents {
            if let Content::LeanProof(proof) = &document.content {
                prop_assert!(!proof.proof.is_empty());
            }
        }
    }
}
