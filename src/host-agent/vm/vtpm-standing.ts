import type { VtpmStateStanding } from '../../api/vtpm-states.js'
import type { RecordStanding } from './vtpm-record.js'

/** What the witness knows of a state, and the newest generation that it was told of (0: of none). */
export interface WitnessAnswer {
  readonly standing: VtpmStateStanding
  readonly newestGeneration: number
}

/**
 * What a state is, that verified under its key:
 *
 * - `current`: the one to start from;
 * - `unconfirmed`: recorded here, and the witness was not told of it;
 * - `unrecorded`: what a run left whose end nobody saw. It may be anything that swtpm wrote in that run;
 * - `rolled-back`: not the newest one that is known here or to the witness.
 */
export type StateVerdict = 'current' | 'unconfirmed' | 'unrecorded' | 'rolled-back'

/**
 * Judges a state by the record beside it and by the witness. Each alone can say that it is an older one; whoever puts
 * back record and state together is seen by the witness.
 *
 * @param known undefined where the witness does not answer, or there is none
 */
export function judgeVtpmState(
  local: { readonly standing: RecordStanding; readonly generation: number },
  known: WitnessAnswer | undefined,
): StateVerdict {
  if (local.standing === 'other' || known?.standing === 'superseded') return 'rolled-back'
  if (known?.standing === 'newest') return 'current'
  if (local.standing === 'unrecorded') return 'unrecorded'
  if (known?.standing !== 'unknown') return 'current'
  // one that the witness does not know can only be newer than all that it knows
  return local.generation > known.newestGeneration ? 'unconfirmed' : 'rolled-back'
}
