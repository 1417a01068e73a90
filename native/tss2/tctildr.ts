import { openLibrary } from '../ffi.js'

/** `tss2_tctildr.h` */
export const tctildr = openLibrary('libtss2-tctildr.so.0', {
  // const char *nameConf, TSS2_TCTI_CONTEXT **context
  Tss2_TctiLdr_Initialize: ['buffer', 'buffer'],
})

/** `tss2_tctildr.h`: frees the context that the slot points to. Returns nothing in C; the result is not to be read. */
export const tctildrRelease = openLibrary('libtss2-tctildr.so.0', {
  // TSS2_TCTI_CONTEXT **context
  Tss2_TctiLdr_Finalize: ['buffer'],
})
