package rotation

func fromNow(r Rotation, f Facts) error {
	if f.Now.Before(r.ValidFrom) {
		return refuse("the new version is not valid before valid_from")
	}
	return nil
}

func forced(r Rotation, f Facts) error {
	if !f.Force {
		return refuse("the rotation is %s: use force=true", r.State)
	}
	return nil
}

// released guards what takes a version away that executions may hold.
func released(_ Rotation, f Facts) error {
	switch {
	case f.Force:
		return nil
	case !f.Counted:
		return ErrNotCounted
	case f.Holders > 0:
		return refuse("%d executions hold the version that would go: wait until they have ended, or use force=true", f.Holders)
	}
	return nil
}

func promotable(r Rotation, f Facts) error {
	switch {
	case f.Force || r.First || r.NoOverlap:
		return nil
	case r.Proof == Unproven:
		return refuse("nobody has used, tested or confirmed the new version: confirm it, or use force=true")
	case r.RequireConfirm && r.Proof != Confirmed:
		return refuse("the new version waits to be confirmed: confirm it, or use force=true")
	}
	return released(r, f)
}

func pastMaxOverlap(r Rotation, f Facts) error {
	switch {
	case f.Now.Before(r.ServingSince.Add(r.MaxOverlap)):
		return refuse("max_overlap has not passed")
	case !f.Counted:
		return ErrNotCounted
	}
	return nil
}

// notSwitching refuses to stop between two values of which only the far side
// knows which one is in force.
func notSwitching(r Rotation, f Facts) error {
	if r.NoOverlap && !f.Force {
		return refuse("the far side is being switched to the new value: wait, or use force=true")
	}
	return nil
}

// droppable guards a rotation that stopped on its way. A new version that was
// served may be held.
func droppable(r Rotation, f Facts) error {
	switch {
	case f.Force:
		return nil
	case r.Step == Finishing:
		return refuse("the rotation has ended, but its far side could not be told: try that again with its rotation_id, or give it up with force=true")
	case r.NoOverlap:
		return refuse("the far side may take only the new value by now: try the step again with its rotation_id, or use force=true")
	case r.Step == "":
		return released(r, f)
	}
	return nil
}

func stepLeft(r Rotation, _ Facts) error {
	if r.Step == "" {
		return refuse("the new version waits to be confirmed: confirm it, promote it with force=true, or abort the rotation")
	}
	return nil
}

func served(r Rotation, _ Facts) error {
	if r.Step != "" {
		return refuse("the rotation stopped at %s: it takes up again with its rotation_id, or is aborted", r.Step)
	}
	return nil
}

func servedAndForced(r Rotation, f Facts) error {
	if err := served(r, f); err != nil {
		return err
	}
	return forced(r, f)
}

// creating guards a value that comes late.
func creating(r Rotation, _ Facts) error {
	if r.Step != Creating {
		return refuse("the rotation stopped at another step than the making of its value")
	}
	return nil
}
