import { bindText } from '../ffi.js'

/** `tss2_rc.h`: the layer, the name and the handle, session or parameter number of a response code. */
export const Tss2_RC_Decode = bindText('libtss2-rc.so.0', 'Tss2_RC_Decode')
