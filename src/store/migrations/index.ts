import type { Migration } from 'kysely'
import { foundationMigration } from './0001-foundation.js'
import { attestationMigration } from './0002-attestation.js'
import { keyProviderMigration } from './0003-key-provider.js'
import { controlPlaneMigration } from './0004-control-plane.js'
import { attestationResultsMigration } from './0005-attestation-results.js'
import { idempotentAnswersMigration } from './0006-idempotent-answers.js'
import { endorsementMigration } from './0007-endorsement.js'
import { referenceSignersMigration } from './0008-reference-signers.js'
import { eventLogsMigration } from './0009-event-logs.js'
import { keyStatesMigration } from './0010-key-states.js'
import { rootKeySealsMigration } from './0011-root-key-seals.js'
import { keyServersMigration } from './0012-key-servers.js'
import { keyReferencesMigration } from './0013-key-references.js'
import { hostKeysMigration } from './0014-host-keys.js'
import { revokedKeysMigration } from './0015-revoked-keys.js'
import { defaultProvidersMigration } from './0016-default-providers.js'
import { tpmKeysMigration } from './0017-tpm-keys.js'
import { peopleMigration } from './0018-people.js'
import { tasksMigration } from './0019-tasks.js'
import { inventoryMigration } from './0020-inventory.js'
import { vtpmStatesMigration } from './0021-vtpm-states.js'
import { guestsMigration } from './0022-guests.js'
import { handOversMigration } from './0024-hand-overs.js'
import { vtpmRevocationsMigration } from './0027-vtpm-revocations.js'

/** All migrations by name, in the order of their numbers. A migration that was released is never changed. */
export const migrations: Readonly<Record<string, Migration>> = {
  '0001-foundation': foundationMigration,
  '0002-attestation': attestationMigration,
  '0003-key-provider': keyProviderMigration,
  '0004-control-plane': controlPlaneMigration,
  '0005-attestation-results': attestationResultsMigration,
  '0006-idempotent-answers': idempotentAnswersMigration,
  '0007-endorsement': endorsementMigration,
  '0008-reference-signers': referenceSignersMigration,
  '0009-event-logs': eventLogsMigration,
  '0010-key-states': keyStatesMigration,
  '0011-root-key-seals': rootKeySealsMigration,
  '0012-key-servers': keyServersMigration,
  '0013-key-references': keyReferencesMigration,
  '0014-host-keys': hostKeysMigration,
  '0015-revoked-keys': revokedKeysMigration,
  '0016-default-providers': defaultProvidersMigration,
  '0017-tpm-keys': tpmKeysMigration,
  '0018-people': peopleMigration,
  '0019-tasks': tasksMigration,
  '0020-inventory': inventoryMigration,
  '0021-vtpm-states': vtpmStatesMigration,
  '0022-guests': guestsMigration,
  '0024-hand-overs': handOversMigration,
  '0027-vtpm-revocations': vtpmRevocationsMigration,
}
