import { openTpm } from '../../../native/index.js'

/** A program that exits on SIGTERM, with a command under way. Its argument is the TCTI string. */
const tpm = await openTpm({ tcti: process.argv[2] ?? '' })
process.on('SIGTERM', () => {
  void tpm.getRandom(8)
  setImmediate(() => process.exit(7))
})
process.stdout.write('open\n')
setInterval(() => undefined, 1_000)
