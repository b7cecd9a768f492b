from tests.objects.conftest import *
from tests.stages.conftest import *
from tests.stages.conftest import medfocus
import time
def test_try(medfocus, bucket, server, images):
    t=time.time()
    for c in (("masks","shapes","--data",images,"--profile","imagenet","--cache",str(bucket)+"/cache"), (*EMBED,"--cache",str(bucket)+"/cache"),("status","--cache",str(bucket)+"/cache"),("masks","--cache",str(bucket)+"/cache"),("cache","ls","--cache",str(bucket)+"/cache"),("cache","verify","--cache",str(bucket)+"/cache"),(*PROBE,"--cache",str(bucket)+"/cache"),("results","--cache",str(bucket)+"/cache")):
        n=len(server.asked)
        a=medfocus(*c); print(c,a.code,time.time()-t,len(server.asked)-n); print(a.out, a.err)
    for o in (bucket/"cache").below(): print(o.name,o.size)
