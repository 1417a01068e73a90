import { randomUUID } from 'node:crypto'
import type { EventView } from '../../../src/api/control-plane.js'
import { controlPlaneStore } from '../../../src/control-plane/adapters/store.js'
import { createVtpmStates } from '../../../src/control-plane/domain/vtpm-states.js'
import type { HostCaller } from '../../../src/control-plane/ports.js'
import { PlatformError } from '../../../src/core/errors.js'
import type { VtpmWitness } from '../../../src/host-agent/vm/index.js'
import { openStore, type Store, writeHostStatus } from '../../../src/store/index.js'

const ISSUER = 'https://authority.test/attestation'
const HOUR_MS = 3600 * 1000

/** The control plane's own rules over a database of their own, without HTTP between. */
export interface TestWitness extends VtpmWitness, AsyncDisposable {
  /** It does not answer while this is set. */
  isAway: boolean
  /** Types of the events since the last call. */
  newEvents(): Promise<readonly string[]>
}

export async function createWitness(): Promise<TestWitness> {
  const store = await openStore({ file: ':memory:' })
  await trust(store)
  const database = controlPlaneStore(store)
  const states = createVtpmStates(database)
  const now = () => Date.now()
  let afterSeq = 0
  const here = () => {
    if (witness.isAway) throw new PlatformError('AUTHORITY_UNREACHABLE', 'away')
  }
  const witness: TestWitness = {
    isAway: false,
    async ask(vmId, digest) {
      here()
      return states.check(caller(), vmId, digest, now())
    },
    async note(vmId, note) {
      here()
      await states.note(caller(), vmId, note, now())
    },
    async complain(vmId, problem) {
      here()
      await states.complain(caller(), vmId, problem, now())
    },
    async newEvents() {
      const events: readonly EventView[] = await database.transaction((tx) =>
        tx.listEvents(afterSeq, 100),
      )
      afterSeq = events.at(-1)?.seq ?? afterSeq
      return events.map(({ type }) => type)
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  }
  return witness
}

function caller(): HostCaller {
  return {
    ...{ issuer: ISSUER, hostId: 'host', cluster: 'lab', hostEpoch: 1, policyEpoch: 1 },
    tokenId: randomUUID(),
    resetCount: 1,
    proof: { thumbprint: 'thumbprint', id: randomUUID(), expiresAtMs: Date.now() + HOUR_MS },
  }
}

async function trust(store: Store): Promise<void> {
  await store.transaction((tx) =>
    writeHostStatus(tx, {
      ...{ issuer: ISSUER, hostId: 'host', cluster: 'lab', state: 'trusted' },
      ...{ newEpoch: false, policyEpoch: 1, atMs: Date.now() },
    }),
  )
}
