import { type SealedColumn, textOf } from '../../store/index.js'
import { SIGNING_KEY_PURPOSE, signingKeyContext } from './signing-keys.js'
import { WEBHOOK_PURPOSE, webhookContext } from './webhook-seal.js'

/** What this service keeps sealed in tables of its own. */
export const ATTESTATION_SEALED: readonly SealedColumn[] = [
  {
    ...{ table: 'attestation_signing_keys', column: 'sealed', keys: ['kid'] },
    purpose: SIGNING_KEY_PURPOSE,
    contextOf: (row) => signingKeyContext(textOf(row, 'kid')),
  },
  {
    ...{ table: 'attestation_webhooks', column: 'sealed_secret', keys: ['webhook_id'] },
    purpose: WEBHOOK_PURPOSE,
    contextOf: (row) => webhookContext(textOf(row, 'webhook_id')),
  },
]
