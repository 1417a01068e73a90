import { PlatformError } from '../src/core/errors.js'
import { Memory, setLibraryVariable } from './ffi.js'
import { addressIn, slot } from './marshal.js'
import { absentError, tpmError } from './tpm-error.js'
import { Esys_Finalize, esys } from './tss2/esys.js'
import { Tss2_TctiLdr_Finalize, Tss2_TctiLdr_Initialize } from './tss2/tctildr.js'

/** Kinds of TPM that are opened: the kernel's, and swtpm. A loader string could name any library otherwise. */
const ACCEPTED_TCTI = /^(device:\/dev\/tpm(rm)?\d{1,3}|swtpm:path=\/[^\0,]+)$/

/** An open ESYS context over a TCTI. */
export interface EsysContext {
  /** ESYS_CONTEXT */
  readonly address: number
  /** Frees both. No call may be running. */
  close(): Promise<void>
}

/** @throws PlatformError `TPM_TCTI` for a TPM of another kind */
export function requireTcti(tcti: string): void {
  if (!ACCEPTED_TCTI.test(tcti)) {
    throw new PlatformError('TPM_TCTI', 'expected device:/dev/tpmrm0 or swtpm:path=/…')
  }
}

/**
 * Opens a TPM through the TCTI loader and ESYS.
 *
 * @param tcti as `requireTcti` accepts
 * @throws PlatformError `TPM_UNREACHABLE` where no TPM is there, `TPM_LIBRARY` where tpm2-tss is not installed
 */
export async function openEsysContext(tcti: string): Promise<EsysContext> {
  // tpm2-tss writes each refusal of a TPM to standard error by itself; ours are in what is thrown.
  setLibraryVariable('TSS2_LOG', 'all+NONE')
  const name = new Memory(Buffer.byteLength(tcti) + 1)
  name.octets.write(tcti)
  const transport = slot()
  const opened = await Tss2_TctiLdr_Initialize(name, transport)
  if (opened !== 0) throw absentError(tcti, opened)
  const context = slot()
  const initialised = await esys.Esys_Initialize(context, addressIn(transport), null)
  if (initialised !== 0) {
    await Tss2_TctiLdr_Finalize(transport)
    throw tpmError('Esys_Initialize', initialised)
  }
  return {
    address: addressIn(context),
    async close() {
      await Esys_Finalize(context)
      await Tss2_TctiLdr_Finalize(transport)
    },
  }
}
