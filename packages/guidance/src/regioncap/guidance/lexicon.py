"""Small closed word lists by part of speech and meaning, written for image captions in English.

They decide only what the rule in `words.py` cannot see from a word's neighbours: which nouns are places, which
adjectives are colours. Lower case, one word each; plurals and other forms stand where they are common.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PLACES = _words("""
    airport alley amusement aquarium arena attic avenue backyard balcony bar basement bathroom bay beach bedroom
    cafe campfire campground campsite canyon carnival cemetery city cityscape classroom cliff cliffs clearing club
    coast country countryside court courtyard creek crosswalk dam deck den desert dock downtown driveway dunes
    factory fairground farm farmland field fields forest garden gym gymnasium hall hallway harbor harbour highway
    hill hills hillside home hospital hotel ice indoor indoors inside intersection island jungle kitchen laboratory
    lagoon lake land landscape lawn library living market meadow mountain mountains mountainside mountaintop museum
    ocean office orchard outdoor outdoors outside park parking path pasture pathway patio pavement pier plains plaza
    playground pond pool port prairie racetrack railway ranch rapids restaurant ring rink river riverbank road
    roadside rodeo rooftop room runway sand sandbox school sea seaside shore shoreline shopping sidewalk skatepark
    sky skyline slope slopes stadium stream street streets studio suburb suburban subway surf swamp theater theatre
    terrace track tracks trail town underwater university urban rural valley village vineyard water waters
    waterfront wharf wilderness wood woodland woods workshop yard zoo
""")

STRUCTURES = _words("""
    barn bridge building buildings bush bushes castle cave church cottage fountain garage house houses hut lights
    plain porch puddle roof ruins shop silhouette silhouettes square stage staircase stairs station store tower
    tunnel wall walls warehouse waterfall
""")
"""A place in "in the house", an object in "beside the house": how a data set mostly uses the word decides."""

LIGHT = _words("""
    afternoon bright brightly backlit dark darkness dawn daylight daytime day dim dimly dusk evening gloomy light
    lit midday moonlight moonlit morning neon night nighttime noon overcast shade shaded shadow shadows shadowy
    silhouetted spotlight sun sundown sunlight sunlit sunny sunrise sunset twilight
""")

WEATHER = _words("""
    autumn blizzard breeze breezy clear cloud clouds cloudy cold fall fog foggy freezing frost frozen hail haze hazy
    hot humid icy mist misty muddy rain raining rainy season snow snowfall snowing snowy spring storm stormy summer
    sunshine thunder warm weather wet wind windy winter dusty flooded
""")

ACTIVITIES = _words("""
    baseball basketball biking boating bowling boxing bullfight camping carnival celebration ceremony christmas
    climbing competition concert cooking cricket cycling dance dancing diving festival fight fighting fishing
    football game gliding golf golfing graduation grinding gymnastics halloween hiking hockey hunting jogging judo
    jumping karate kayaking lacrosse lunch dinner breakfast marathon marching match meal meeting motocross parade
    party performance picnic playing polo practice protest race racing rafting reading relay rehearsal riding rodeo
    rowing rugby running sailing sale shopping show singing skateboarding skating skiing skydiving sledding
    snorkeling snowboarding soccer softball sport sports surfing swimming tournament tennis traffic training
    traveling trek vacation volleyball wading wakeboarding walking war wedding wrestling yoga
""")

SURFACES = _words("cobblestone concrete dirt grass grassy gravel mud pavement rocky sandy wooded")

SCENE = PLACES | LIGHT | WEATHER | ACTIVITIES | SURFACES

COLOURS = _words("""
    amber beige black blonde blond blue bronze brown brunette burgundy colorful colored colourful coloured cream
    crimson cyan gold golden gray green grey indigo ivory khaki lavender lime magenta maroon multicolored navy olive
    orange pink purple red scarlet silver tan teal turquoise violet white yellow
""")

PATTERNS = _words("""
    camouflage checked checkered chequered dotted floral hatched patterned plaid polka solid spotted striped stripes
    stripy tiled
""")

COUNTS = _words("""
    one two three four five six seven eight nine ten eleven twelve dozen several many few couple pair single double
    both group crowd bunch pile row herd flock
""")

MATERIALS = _words("""
    brick bamboo canvas cardboard cement chrome clay cloth concrete cotton denim fabric feather feathers fiberglass
    foam fur furry fluffy glass gravel iron knit knitted lace leather marble metal metallic nylon paper plastic rock
    rubber satin silk spandex steel stone straw suede tile tin vinyl wicker wire wood wooden wool woolen woven
""")

SIZES = _words("""
    big enormous gigantic giant great huge large larger little long low massive medium mini miniature narrow
    oversized short skinny slim small smaller tall thick thin tiny wide
""")

STATES = _words("""
    adult asian african american athletic bald barefoot bare bearded broken chinese curly dead dirty dry elderly
    empty fallen female floppy frozen full fuzzy hairy hooded inflatable indian japanese male middle-aged muddy
    naked old older open pregnant professional ragged round rusty shaggy shaved shirtless smiling soapy stuffed
    teenage tattooed toothless wet young younger pointed triangular oval
""")

ATTRIBUTES = COLOURS | PATTERNS | COUNTS | MATERIALS | SIZES | STATES

DETERMINERS = _words("a an the this that these those his her their its another some any each every no other")

LOCATIVES = _words("at in inside into on onto outside through throughout within")

PREPOSITIONS = _words("""
    about above across after against along alongside amid among around as at atop away back before behind below
    beneath beside besides between beyond by close down during for from in inside into like near next of off on onto
    opposite out outside over past through throughout to toward towards under underneath until up upon via while
    with within without
""")

_OTHER_FUNCTION = _words("""
    again ahead alike all scene scenes closeup close-up almost alone already also am and apart are aside be because
    been behind being both but can could did do does doing down each either else enough even ever far for forward
    front had half has have having he him himself herself here how i if is it itself just left less lot lots many
    may me midair mid middle more most much my myself neither nor not nearby now one ones only or others otherwise
    our out own part parts quickly quite rather ready right same she should side sideways sides so someone something
    somewhere soon still such than them themselves then there they thing things together too top toward type upside
    us very was way we well were what whatever when where which who whole whom whose why will would yet you whilst
    whist backwards though everywhere your bottom end edge kind piece set variety different various background
    distance foreground center middle corner area front back view picture photo photograph image camera air ground
    time something place spot direction heavily slightly mostly partially fully nearly closely
""")

FUNCTION = DETERMINERS | PREPOSITIONS | _OTHER_FUNCTION
"""Words that name nothing to be seen, among them parts of space ("front", "side") and talk of the picture itself."""

VERBS = _words("""
    appear appears approach approaches are attempts attempt balance balances bend bends bite bites blow blows break
    breaks bring brings build builds call calls carried carries carry catch catches caught celebrate celebrates
    chase chased chases chew chews clap claps climb climbs come comes compete competes cook cooks cover covers
    covered crawl crawls cross crosses cut cuts dance dances dig digs dive dives do does draw draws dressed drink
    drinks drive drives drop drops eat eats enjoy enjoys enter enters fall falls feed feeds fight fights fill filled
    flies flip flips float floats fly follow follows gather gathers get gets give gives go goes grab grabs grind
    grinds hang hangs have held help helps hide hides hike hikes hit hits hold holds hug hugs hurdle hurdles is jog
    jogs jump jumps jumped keep keeps kick kicks kiss kisses kneel kneels laugh laughs lay lays lead leads lean
    leans leap leaps leave leaves let lets lick licks lie lies lift lifts lined listen listens located look looks
    made make makes march marches meet meets move moves open opens overlook overlooks paddle paddles paint paints
    pass passes paw peer peers perform performs pet pets pick picks place placed plays play point points pose poses
    posed practice practices prepare prepares pull pulls pulled push pushes put puts race races raise raises reach
    reaches read reads rest rests ride rides ridden roll rolls row rows run runs sail sails say says see seen sees
    sell sells serve serves shake shakes share shares shoot shoots show shows sing sings sit sits skate skates ski
    skis sleep sleeps slide slides smell smells smile smiles smoke smokes sniff sniffs spin spins splash splashes
    spray sprays squat squats stand stands stare stares stay stays step steps stick sticks stop stops stretch
    stretches strike strikes surf surfs surround surrounded swim swims swing swings tackle tackles take takes taken
    talk talks tell tells throw throws thrown touch touches toss tosses travel travels tries try tumble turn turns
    use uses used wade wades wait waits walk walks walked wash washes watch watches watched wave waves wear wears
    work works worn wrestle wrestles write writes yawn yawns yell yells
""")
"""Forms that are verbs in captions more often than nouns; a strict majority of noun places overrules the list."""
