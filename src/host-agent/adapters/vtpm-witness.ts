import { checkVtpmState, noteVtpmState, reportVtpmProblem } from '../../api/vtpm-states.js'
import type { VtpmWitness } from '../vm/ports.js'
import type { Authority } from './authority.js'

const MAX_MESSAGE = 2000

/** The control plane as the witness of the states of virtual TPMs. */
export function createVtpmWitness(authority: Authority): VtpmWitness {
  return {
    ask: (vmId, digest) => authority.call(checkVtpmState, { params: { vmId }, query: { digest } }),
    async note(vmId, note) {
      await authority.call(noteVtpmState, { params: { vmId }, body: note })
    },
    async complain(vmId, { code, message }) {
      const body = { code, message: message.slice(0, MAX_MESSAGE) }
      await authority.call(reportVtpmProblem, { params: { vmId }, body })
    },
  }
}
