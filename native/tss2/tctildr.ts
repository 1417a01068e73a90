import { bindAsync } from '../ffi.js'

/** `tss2_tctildr.h` */
export const { Tss2_TctiLdr_Initialize } = bindAsync('libtss2-tctildr.so.0', {
  // const char *nameConf, TSS2_TCTI_CONTEXT **context
  Tss2_TctiLdr_Initialize: ['pointer', 'pointer'],
})

/** `tss2_tctildr.h`: ends the context that the pointer points to. */
export const { Tss2_TctiLdr_Finalize } = bindAsync(
  'libtss2-tctildr.so.0',
  {
    // TSS2_TCTI_CONTEXT **context
    Tss2_TctiLdr_Finalize: ['pointer'],
  },
  'void',
)
