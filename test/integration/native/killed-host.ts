import { openTpm } from '../../../native/index.js'
import { STORAGE_PRIMARY_TEMPLATE } from '../../../src/tpm/index.js'

/** A program that is killed with a key and sessions in the TPM. Its argument is the TCTI string. */
const tpm = await openTpm({ tcti: process.argv[2] ?? '' })
await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
process.kill(process.pid, 'SIGKILL')
