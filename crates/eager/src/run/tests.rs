//! What is skipped, what is done again, what goes on.

use std::cell::Cell;

use serde_json::json;

use super::*;

fn open() -> (tempfile::TempDir, Run) {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::open(&folder.path().join("run")).unwrap();
    (folder, run)
}

/// The file that bodies write: the first of the outputs that the folder's stage may have.
fn out(folder: &Path) -> PathBuf {
    let mut stages = Stage::ALL.into_iter();
    let name = folder.file_name().unwrap().to_string_lossy(); // or of the new one, `.data.new`
    let stage = stages.find(|stage| name.contains(stage.name()));
    folder.join(stage.unwrap().outputs()[0])
}

/// A body that writes one file, and counts.
fn writes<'a>(text: &'a str, count: &'a Cell<u32>) -> impl FnOnce(&Path) -> Result<()> + 'a {
    move |folder| {
        count.set(count.get() + 1);
        write_atomic(&out(folder), text.as_bytes())
    }
}

#[test]
fn what_is_done_is_skipped_and_a_change_runs_it_again() {
    let (_guard, run) = open();
    let count = Cell::new(0);
    let config = json!({"b": 1, "a": 2});
    let (first, skipped) = run
        .stage(Stage::Data, &config, 1, &[], &[], writes("x", &count))
        .unwrap();
    assert!(!skipped && first.attempts == 1 && first.wall_seconds >= 0.0);
    assert_eq!(first.outputs["dataset.json"], sha256(b"x"));
    assert!(!run.folder(Stage::Data).join(INPUTS).exists());
    let (again, skipped) = run
        .stage(Stage::Data, &config, 1, &[], &[], writes("x", &count))
        .unwrap();
    assert!(skipped && again == first && count.get() == 1);

    let extra = [("file", "digest".to_owned())];
    let other = json!({"b": 1, "a": 3});
    run.stage(Stage::Data, &other, 1, &[], &[], writes("x", &count))
        .unwrap();
    run.stage(Stage::Data, &other, 2, &[], &[], writes("x", &count))
        .unwrap();
    run.stage(Stage::Data, &other, 2, &[], &extra, writes("x", &count))
        .unwrap();
    assert_eq!(count.get(), 4);
}

#[test]
fn what_stands_below_a_changed_output_runs_again() {
    let (_guard, run) = open();
    let (above, below) = (Cell::new(0), Cell::new(0));
    let both = |config: u32, text: &str| {
        let (data, _) = run
            .stage(Stage::Data, &config, 1, &[], &[], writes(text, &above))
            .unwrap();
        run.stage(Stage::Codes, &(), 1, &[&data], &[], writes("codes", &below))
            .unwrap()
            .1
    };
    assert!(!both(1, "x"));
    assert!(both(1, "x"));
    assert!(!both(2, "y"));
    assert_eq!((above.get(), below.get()), (2, 2));
    // Another config above, but the same output: nothing below has to move.
    assert!(both(3, "y"));
    assert_eq!((above.get(), below.get()), (3, 2));
}

#[test]
fn a_stage_made_of_what_is_there_no_more_is_no_part_of_the_run() {
    let (_guard, run) = open();
    let count = Cell::new(0);
    let stage = |stage: Stage, text: &str, of: &[&StageRecord]| {
        let made = run.stage(stage, &(), 1, of, &[], writes(text, &count));
        made.unwrap().0
    };
    let stages = || -> Vec<Stage> {
        let records = records(run.root()).unwrap();
        records.into_iter().map(|record| record.stage).collect()
    };
    assert_eq!(stages(), []);
    let data = stage(Stage::Data, "x", &[]);
    let text = stage(Stage::Text, "texts", &[&data]);
    let model = stage(Stage::Model, "weights", &[&data, &text]);
    stage(Stage::Eval, "figures", &[&data, &model]);
    assert_eq!(
        stages(),
        [Stage::Data, Stage::Text, Stage::Model, Stage::Eval]
    );
    // The texts of another encoder, and the command ends there.
    let made = run.stage(Stage::Text, &2, 1, &[&data], &[], writes("others", &count));
    assert!(!made.unwrap().1);
    assert_eq!(stages(), [Stage::Data, Stage::Text]);
    // Another command's model of the data alone: the texts are there, but its figures are not of them.
    let other = stage(Stage::Model, "another's weights", &[&data]);
    stage(Stage::Eval, "its figures", &[&data, &other]);
    assert_eq!(stages(), [Stage::Data, Stage::Model, Stage::Eval]);
}

#[test]
fn files_that_no_stage_wrote_stay_and_change_nothing() {
    let (_guard, run) = open();
    let count = Cell::new(0);
    let stage = || {
        run.stage(Stage::Data, &1, 1, &[], &[], writes("x", &count))
            .unwrap()
    };
    stage();
    let note = run.folder(Stage::Data).join("note.txt");
    std::fs::write(&note, "looked at on Monday").unwrap();
    assert!(stage().1);
    // Both are there while the stage is being done again, and are changed after it.
    let hidden = run.folder(Stage::Data).join(".DS_Store");
    std::fs::write(&hidden, "places").unwrap();
    std::fs::remove_file(out(&run.folder(Stage::Data))).unwrap();
    assert!(!stage().1 && count.get() == 2);
    for (file, text) in [(&note, "and on Tuesday"), (&hidden, "other places")] {
        std::fs::write(file, text).unwrap();
        assert!(stage().1);
        assert_eq!(std::fs::read_to_string(file).unwrap(), text);
    }
}

#[test]
fn what_was_interrupted_goes_on_and_other_inputs_start_anew() {
    let (_guard, run) = open();
    let fails = |folder: &Path| -> Result<()> {
        std::fs::create_dir(folder.join("checkpoints"))?;
        std::fs::write(folder.join("checkpoints/step-7"), "7")?;
        std::fs::write(folder.join("weights.5.part"), "half")?;
        bail!("power cut")
    };
    let error = run.stage(Stage::Model, &1, 1, &[], &[], fails).unwrap_err();
    assert_eq!(format!("{error:#}"), "stage `model`: power cut");

    let goes_on = |folder: &Path| -> Result<()> {
        assert!(folder.join("checkpoints/step-7").exists());
        assert!(!folder.join("weights.5.part").exists());
        std::fs::write(folder.join("metrics.jsonl"), "{}")?;
        write_atomic(&out(folder), b"w")
    };
    let (record, skipped) = run.stage(Stage::Model, &1, 1, &[], &[], goes_on).unwrap();
    assert!(!skipped && record.attempts == 2);
    let outputs: Vec<&String> = record.outputs.keys().collect();
    assert_eq!(outputs, ["model.safetensors"]);

    let empty = |folder: &Path| -> Result<()> {
        assert_eq!(std::fs::read_dir(folder)?.count(), 1); // inputs.json
        bail!("again")
    };
    run.stage(Stage::Model, &2, 1, &[], &[], empty).unwrap_err();
    assert!(run.record(Stage::Model).unwrap().is_none());
}

#[test]
fn a_stage_that_fails_leaves_what_an_earlier_command_made() {
    let (_guard, run) = open();
    let count = Cell::new(0);
    let (made, _) = run
        .stage(Stage::Data, &1, 1, &[], &[], writes("x", &count))
        .unwrap();
    let fails = |folder: &Path| -> Result<()> {
        write_atomic(&out(folder), b"half")?;
        bail!("no such column")
    };
    run.stage(Stage::Data, &2, 1, &[], &[], fails).unwrap_err();
    assert!(!new_folder(run.root(), Stage::Data).exists());
    let (again, skipped) = run
        .stage(Stage::Data, &1, 1, &[], &[], writes("y", &count))
        .unwrap();
    assert!(skipped && again == made && count.get() == 1);
    assert!(!run.folder(Stage::Data).join(INPUTS).exists());
}

#[test]
fn the_time_of_an_interrupted_attempt_counts_to_its_last_file() {
    let (_guard, run) = open();
    let fails = |_: &Path| -> Result<()> { bail!("stop") };
    run.stage(Stage::Model, &1, 1, &[], &[], fails).unwrap_err();
    let path = run.folder(Stage::Model).join(INPUTS);
    let mut begun: Begun = read_json(&path).unwrap().unwrap();
    begun.started -= 100.0;
    begun.earlier_seconds = 50.0;
    write_json(&path, &begun).unwrap();
    // Another's file, written long after.
    let note = File::create(run.folder(Stage::Model).join("note.txt")).unwrap();
    let later = SystemTime::now() + std::time::Duration::from_secs(1000);
    note.set_modified(later).unwrap();
    let (record, _) = run
        .stage(Stage::Model, &1, 1, &[], &[], |_| Ok(()))
        .unwrap();
    assert!(
        (149.0..160.0).contains(&record.wall_seconds),
        "{}",
        record.wall_seconds
    );
}

#[test]
fn a_lost_output_is_made_again_from_the_checkpoints() {
    let (_guard, run) = open();
    let count = Cell::new(0);
    let body = |folder: &Path| -> Result<()> {
        count.set(count.get() + 1);
        let kept = folder.join("checkpoints");
        assert_eq!(kept.exists(), count.get() > 1);
        std::fs::create_dir_all(kept)?;
        assert!(!out(folder).exists());
        write_atomic(&out(folder), b"x")
    };
    let (mut first, _) = run.stage(Stage::Model, &1, 1, &[], &[], body).unwrap();
    // As if it had taken long, in three attempts.
    (first.attempts, first.wall_seconds) = (3, 50.0);
    let folder = run.folder(Stage::Model);
    write_json(&folder.join(RECORD), &first).unwrap();
    std::fs::write(out(&folder), "y").unwrap();
    let (again, skipped) = run.stage(Stage::Model, &1, 1, &[], &[], body).unwrap();
    assert!(!skipped && again.attempts == 4 && again.outputs == first.outputs);
    assert!(
        (50.0..60.0).contains(&again.wall_seconds),
        "{}",
        again.wall_seconds
    );
    let (_, skipped) = run.stage(Stage::Model, &1, 1, &[], &[], body).unwrap();
    assert!(skipped && count.get() == 2);
}

#[test]
fn a_folder_of_someone_else_is_left_alone() {
    let (_guard, run) = open();
    let folder = run.folder(Stage::Data);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("thesis.tex"), "years").unwrap();
    let error = run
        .stage(Stage::Data, &1, 1, &[], &[], |_| Ok(()))
        .unwrap_err();
    assert!(error.to_string().contains("was not made by a stage"));
    assert!(folder.join("thesis.tex").exists());
}

#[test]
fn another_runs_stage_is_taken_where_it_is_the_same_and_whole() {
    let (guard, first) = open();
    let count = Cell::new(0);
    let body = |folder: &Path| -> Result<()> {
        std::fs::create_dir_all(folder.join("checkpoints"))?;
        std::fs::write(folder.join("checkpoints/last"), "x")?;
        count.set(count.get() + 1);
        write_atomic(&out(folder), b"x")
    };
    let (record, _) = first.stage(Stage::Model, &1, 1, &[], &[], body).unwrap();
    let other = |name: &str| {
        let run = Run::open(&guard.path().join(name)).unwrap();
        run.with_reuse(Some(first.root()))
    };
    let second = other("second");
    let (taken, skipped) = second.stage(Stage::Model, &1, 1, &[], &[], body).unwrap();
    assert!(skipped && taken == record && count.get() == 1);
    let folder = second.folder(Stage::Model);
    assert_eq!(std::fs::read(out(&folder)).unwrap(), b"x");
    assert!(!folder.join("checkpoints").exists());
    // It is its own from now on.
    let (_, skipped) = second.stage(Stage::Model, &1, 1, &[], &[], body).unwrap();
    assert!(skipped && count.get() == 1);
    let (_, skipped) = second.stage(Stage::Model, &2, 1, &[], &[], body).unwrap();
    assert!(!skipped && count.get() == 2, "other settings");

    let output = out(&first.folder(Stage::Model));
    std::fs::write(&output, "y").unwrap();
    let (_, skipped) = other("third")
        .stage(Stage::Model, &1, 1, &[], &[], body)
        .unwrap();
    assert!(!skipped && count.get() == 3, "its files were changed");
    std::fs::write(&output, "x").unwrap();
    let fourth = other("fourth");
    std::fs::create_dir(fourth.folder(Stage::Model)).unwrap();
    std::fs::write(fourth.folder(Stage::Model).join("thesis.tex"), "years").unwrap();
    let error = fourth
        .stage(Stage::Model, &1, 1, &[], &[], body)
        .unwrap_err();
    assert!(error.to_string().contains("was not made by a stage"));
    assert!(fourth.folder(Stage::Model).join("thesis.tex").exists());
}

#[test]
fn a_baselines_model_is_taken_for_the_behaviour_model() {
    let (guard, baseline) = open();
    let body = |folder: &Path| write_atomic(&out(folder), b"x");
    let (trained, _) = baseline.stage(Stage::Model, &1, 1, &[], &[], body).unwrap();
    let run = Run::open(&guard.path().join("eager")).unwrap();
    let run = run.with_reuse(Some(baseline.root()));
    let no = |_: &Path| bail!("trained again");
    let (taken, skipped) = run.stage(Stage::Behaviour, &1, 1, &[], &[], no).unwrap();
    assert!(skipped && taken.stage == Stage::Behaviour && taken.outputs == trained.outputs);
    let (_, skipped) = run.stage(Stage::Behaviour, &1, 1, &[], &[], no).unwrap();
    assert!(skipped, "its own from now on");
    run.stage(Stage::Behaviour, &2, 1, &[], &[], no)
        .unwrap_err();
    run.stage(Stage::Text, &1, 1, &[], &[], no).unwrap_err();
}

#[test]
#[cfg(unix)]
fn files_can_be_read_by_whom_the_umask_lets() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| {
        let found = std::fs::metadata(folder.path().join(name)).unwrap();
        found.permissions().mode() & 0o777
    };
    write_atomic(&folder.path().join("ours"), b"x").unwrap();
    std::fs::write(folder.path().join("plain"), b"x").unwrap();
    assert_eq!(mode("ours"), mode("plain"));
}

#[test]
fn one_process_a_run() {
    let (_guard, run) = open();
    let error = Run::open(run.root()).unwrap_err().to_string();
    let holder = format!("another process (id {})", std::process::id());
    assert!(error.contains(&holder), "{error}");
    let root = run.root().to_owned();
    drop(run);
    Run::open(&root).unwrap();
}
