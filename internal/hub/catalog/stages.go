package catalog

import "freshet/api/hubapi"

// Stage is how far a build has come, in one word made of its two states.
type Stage string

// The stages of a build.
const (
	StageUploading  Stage = "uploading"
	StageCommitting Stage = "committing"
	StageChecking   Stage = "checking"
	StageReady      Stage = "ready"
	StagePublishing Stage = "publishing"
	StagePublished  Stage = "published"
	StageFailed     Stage = "failed"
	StagePurged     Stage = "purged"
)

// OpenStages returns those of builds on their way.
func OpenStages() []Stage {
	return []Stage{StageUploading, StageCommitting, StageChecking, StageReady, StagePublishing}
}

// StageOf returns the stage of a build in these states.
func StageOf(repo hubapi.RepoState, published hubapi.PublishedState) Stage {
	switch {
	case published == hubapi.Published:
		return StagePublished
	case repo == hubapi.RepoPurging, repo == hubapi.RepoPurged:
		return StagePurged
	case published == hubapi.Publishing:
		return StagePublishing
	case repo == hubapi.RepoFailed, published == hubapi.PublishFailed && repo == hubapi.RepoReady:
		return StageFailed
	case repo == hubapi.RepoUploading:
		return StageUploading
	case repo == hubapi.RepoCommitting:
		return StageCommitting
	case repo == hubapi.RepoValidating:
		return StageChecking
	}
	return StageReady
}

// states are a pair of the states of a build.
type states struct {
	repo      hubapi.RepoState
	published hubapi.PublishedState
}

// statesIn returns the pairs of states that are one of the stages.
func statesIn(stages []Stage) (pairs []states) {
	for repo := hubapi.RepoUploading; repo <= hubapi.RepoValidating; repo++ {
		for published := hubapi.Unpublished; published <= hubapi.PublishFailed; published++ {
			for _, stage := range stages {
				if StageOf(repo, published) == stage {
					pairs = append(pairs, states{repo, published})
				}
			}
		}
	}
	return pairs
}
