import { utf8, view } from '../src/core/bytes.js'
import { PlatformError } from '../src/core/errors.js'
import { setLibraryVariable } from './ffi.js'
import { addressIn, slot } from './marshal.js'
import { TpmError, tpmError } from './tpm-error.js'
import { esys, esysRelease } from './tss2/esys.js'
import { tctildr, tctildrRelease } from './tss2/tctildr.js'

/** Kinds of TPM that are opened: the kernel's resource manager, and swtpm. Others are refused. */
const ACCEPTED_TCTI = /^(device:\/dev\/[\w./-]+|swtpm:path=\/[^\0,]+)$/

/** An open ESYS context over a TCTI. */
export interface EsysContext {
  /** ESYS_CONTEXT */
  readonly address: number
  close(): Promise<void>
}

/**
 * Opens a TPM through the TCTI loader and ESYS.
 *
 * @param tcti `device:/dev/tpmrm0` or `swtpm:path=/socket`; swtpm's control socket is at `/socket.ctrl`
 * @throws PlatformError `TPM_TCTI` for any other, `TPM_UNREACHABLE` where no TPM answers there
 */
export async function openEsysContext(tcti: string): Promise<EsysContext> {
  if (!ACCEPTED_TCTI.test(tcti)) {
    throw new PlatformError('TPM_TCTI', 'expected device:/dev/… or swtpm:path=/…')
  }
  // tpm2-tss writes each refusal of a TPM to standard error by itself; ours are in what is thrown.
  setLibraryVariable('TSS2_LOG', 'all+NONE')
  const tctiSlot = slot()
  const name = view(utf8(`${tcti}\0`))
  const opened = await tctildr.Tss2_TctiLdr_Initialize(name, tctiSlot)
  if (opened !== 0) {
    throw new TpmError('TPM_UNREACHABLE', opened, `expected a TPM at ${tcti}, found none`)
  }
  const esysSlot = slot()
  const initialised = await esys.Esys_Initialize(esysSlot, addressIn(tctiSlot), null)
  if (initialised !== 0) {
    await tctildrRelease.Tss2_TctiLdr_Finalize(tctiSlot)
    throw tpmError('Esys_Initialize', initialised)
  }
  return {
    address: addressIn(esysSlot),
    async close() {
      await esysRelease.Esys_Finalize(esysSlot)
      await tctildrRelease.Tss2_TctiLdr_Finalize(tctiSlot)
    },
  }
}
