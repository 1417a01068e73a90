import { readFileSync } from 'node:fs'
import { appraise, DEFAULT_POLICY, decodeEvidence, verifyEvidence } from '../../src/appraisal/index.js'
import { passed, failures } from '../../src/core/finding.js'
import { parseEventLog, replayEventLog, verifyEventLog } from '../../src/eventlog/index.js'
import { createSoftwareHost } from './software-host.js'
const POLICY = { ...DEFAULT_POLICY, pcrs: [0,1,2,3,4,5,6,7,8,9], pinnedPcrs:[0,4,7], bindingPcrs:[0,4,7], requireSecureBoot:false, requireEventLog:false }
const log = process.argv[2]==='log' ? new Uint8Array(readFileSync('/work/shared/vectors/attestation/google_go-tpm-tools/internal/test/eventlogs/ubuntu-2404-amd-sevsnp.bin')) : undefined
const real = new Uint8Array(readFileSync('/work/shared/vectors/attestation/google_go-tpm-tools/internal/test/eventlogs/ubuntu-2404-amd-sevsnp.bin'))
const replayed = replayEventLog(parseEventLog(real),'sha256')
const pcrs = new Map(POLICY.pcrs.map(p=>[p,replayed.get(p)??new Uint8Array(32)] as const))
const host = await createSoftwareHost('bench',{pcrValues:pcrs,...(log?{eventLog:log}:{})})
const verifier='https://bench.test/attestation'
const evidence = host.evidence({nonce:new Uint8Array(40),verifier,policy:POLICY})
const decoded = await decodeEvidence(evidence)
const {pcrValues,eventLog}=decoded
const image={name:'bench',bank:'sha256',pcrs:new Map([...pcrValues].map(([p,v])=>[p,[Buffer.from(v).toString('hex')]]))}
const judge=()=>{ const identity=verifyEvidence(decoded,{ak:host.ak.area,verifier,policy:POLICY,nonceFinding:passed('nonce')})
 const report=eventLog&&verifyEventLog(parseEventLog(eventLog),'sha256',pcrValues)
 const {findings}=appraise({policy:POLICY,pcrValues,clock:identity.clock!,previousClock:undefined,eventLog:report,eventLogOctets:eventLog?.length??0,baseImages:[image],nowMs:0})
 if(failures([...identity.findings,...findings]).length) throw new Error('bad') }
const s=process.cpuUsage(); let n=0; const t=performance.now()
while(performance.now()-t<6000){judge();n++}
const u=process.cpuUsage(s); console.log(n/6,'per s wall', Math.round((u.user+u.system)/n),'us cpu each')
