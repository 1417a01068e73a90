import { expect, test } from 'vitest'
import type { RecordStanding } from '../../../../src/host-agent/vm/vtpm-record.js'
import {
  judgeVtpmState,
  type StateVerdict,
  type WitnessAnswer,
} from '../../../../src/host-agent/vm/vtpm-standing.js'

const GENERATION = 5
const none: WitnessAnswer = { standing: 'none', newestGeneration: 0 }
const newest: WitnessAnswer = { standing: 'newest', newestGeneration: 5 }
const superseded: WitnessAnswer = { standing: 'superseded', newestGeneration: 7 }
const behind: WitnessAnswer = { standing: 'unknown', newestGeneration: 4 }
const ahead: WitnessAnswer = { standing: 'unknown', newestGeneration: 5 }

test.each<[string, RecordStanding, WitnessAnswer | undefined, StateVerdict]>([
  ['the recorded one is current where nobody else is asked', 'recorded', undefined, 'current'],
  ['the recorded one is current where nothing else is known', 'recorded', none, 'current'],
  ['the recorded one is current where it is the newest', 'recorded', newest, 'current'],
  ['the recorded one that the witness missed is not confirmed', 'recorded', behind, 'unconfirmed'],
  ['a record that was put back is seen', 'recorded', superseded, 'rolled-back'],
  ['a record that others have overtaken is seen', 'recorded', ahead, 'rolled-back'],
  ['what a crash left is not recorded', 'unrecorded', undefined, 'unrecorded'],
  ['what a crash left is not recorded elsewhere', 'unrecorded', none, 'unrecorded'],
  ['what a crash left is unknown elsewhere', 'unrecorded', ahead, 'unrecorded'],
  ['what a crash left is what it began with', 'unrecorded', newest, 'current'],
  ['an older state is seen after a crash too', 'unrecorded', superseded, 'rolled-back'],
  ['another than the recorded one is an older one', 'other', undefined, 'rolled-back'],
  ['another than the recorded one is refused, whatever is known', 'other', newest, 'rolled-back'],
])('%s', (_, standing, known, verdict) => {
  expect(judgeVtpmState({ standing, generation: GENERATION }, known)).toBe(verdict)
})
