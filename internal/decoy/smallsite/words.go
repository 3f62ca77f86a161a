package smallsite

// common is what everyone says. Fixed runs of words are short, so that no phrase of six is a mark of this generator;
// TestPhrases watches over it.
var common = rules{
	"weekday": "Monday\nTuesday\nWednesday\nThursday\nFriday\nSaturday\nSunday",
	"month":   "January\nFebruary\nMarch\nApril\nMay\nJune\nJuly\nAugust\nSeptember\nOctober\nNovember\nDecember",
	"season":  "spring\nsummer\nautumn\nwinter",
	"daypart": "morning\nafternoon\nevening",
	"mood":    "wet\nquiet\nwindy\nslow\nbright\ncold\ndull\nwarm\nbusy\ngrey\nclear\nrainy\nfoggy\nfrosty\nlazy\nsunny",
	"few":     "two\nthree\nfour\nfive\nsix\nseven\na few\na couple of\nsome\nseveral\nhalf a dozen\na handful of",
	"count":   "eight\nnine\nten\neleven\ntwelve\nthirteen\nfourteen\nfifteen\nsixteen\neighteen\ntwenty\nthirty\nforty",
	"unit":    "hours\ndays\nweeks\nevenings\nmornings\nafternoons\nweekends\nattempts",
	"when": `last {weekday}
		on a~ {mood} {weekday} {daypart}
		one {mood} {daypart}
		in {month}
		early in {month}
		late in {month}
		{few} weeks ago
		last {season}
		this {season}
		the other {daypart}
		towards the end of {season}
		before the {season} holidays
		after {few} {mood} days
		around the middle of {month}
		between {month} and {month}
		since {month}
		one {weekday}
		by {month}`,
	"span": `{few} {unit}
		most of {month}
		a whole {daypart}
		the {better|larger|worst} part of a~ {season}
		{count} minutes
		{few} {mood} {daypart}s
		nearly all {season}
		until {weekday}
		more than {few} {unit}
		a~ {mood} {weekday}`,
	"hugely": "rather\nvery\nquite\na little\nsurprisingly\nfairly\nremarkably\nreally\nalmost too\npleasantly\noddly\nreasonably\nunusually",
	"fine": `good
		sound
		tidy
		thorough
		pleasing
		decent
		simple
		handsome
		useful
		cheerful
		neat
		plain
		modest
		careful
		sturdy
		likeable`,
	"poor":    "crooked\ntired\nworn\nscruffy\nneglected\nstubborn\nawkward\nfaded\nbattered\nfussy\nsad\ndusty\nodd\nshabby",
	"quality": "{good}\n{fine}\n{good} and {fine}\n{hugely} {good}\n{good} but {fine}\nneither {good} nor {poor}",
	"aThing":  "a~ {thing}\na~ {fine} {thing}\na~ {poor} {thing}\nthe {good} {thing}\n{helper}'s {thing}\nanother {thing}\none more {thing}\nthe {ordinal} {thing}\nthat {poor} {thing}\n{few} {things}",
	"ordinal": "first\nsecond\nthird\nfourth\nfifth\nsixth\nlast\nlatest\nnext\nbest\nworst\noldest",
	"helper":  "{friendName}\n{friendName}\n{friendName}\nthe {friend}\nthe {friend}'s {kin}\n{friendName} from {place}\n{my} {kin}",
	"kin":     "sister\nbrother\nfather\nmother\naunt\nuncle\ncousin\nneighbour\nwife\nhusband\ndaughter\nson\ngrandfather",
	"place":   "{town}\n{town}\nthe {friend}\n{village}\n{village}\nthe next valley\nup the road\nacross the river",
	"where":   "by the {window|door|stove|stairs|sink}\nin the {back|cellar|shed|hall|attic}\nunder the {bench|stairs|roof|counter}\nnear {village}\nat {helper}'s\non the {top|bottom|second} shelf\nbehind the {door|stove|curtain|shed}\nin a~ {fine} {box|drawer|tin|bag}",
	"brought": "brought\nsent\nlent {me}\ngave {me}\nfound\nturned up with\nasked about\nshowed {me}\ndropped off\ncarried in\noffered {me}\nkept",
	"cost":    "cost {me}\ntook\nset {me} back\nate up\nswallowed\nwasted\nused up\nfilled",
	"verdict": "{hugely} {good}\n{fine} enough\nnot {good} at all\nbetter than {aThing}\nas {good} as {aThing}\n{good}, if {poor}\nworth {span}\nmore {fine} than {good}\nfar too {good}\nalmost {fine}",
	"became":  "turned out\ncame out\nended up\nlooked\nwas\nstayed\nseemed\nproved\nbecame\ngrew",
	"outcome": "it {became} {verdict}\nit {became} {verdict}\n{helper} {liked} it\nnobody {noticed|minded|complained}\nthe {tool} {held|slipped|survived}\n{trouble}\n{I} {learnt|noticed} {something}\n{stuff} went everywhere\nthere is {stuff} left\n{trouble} again\nthat settled {weekday}",
	"liked":   "liked\napproved of\nlaughed at\nkept\nasked about\npraised\npaid for\nborrowed\nadmired\nremembered\nphotographed",
	"something": `{few} things about {stuff}
		why {things} {fail|last|differ}
		to leave {stuff} alone
		how {good} {stuff} can be
		what the {tool} is for
		to trust the {tool}
		when to stop {doing}
		that {stuff} has {limits|moods|seasons}`,
	"because": "because {trouble}\nsince {trouble}\nas {helper} {wanted|suggested|insisted}\nand {trouble}\nmostly thanks to {stuff}\nthough {trouble}\nfor want of {stuff}\nso that {helper} could see\nout of {habit|curiosity|stubbornness|vanity}\non the advice of {helper}",
	"think":   "think\nsuspect\nbelieve\nhope\nfind\nsay\nknow\nsuppose\nmaintain\nimagine\nadmit",
	"often":   "often\nusually\nsometimes\nalways\nmostly\nrarely\nhardly ever\nstill\nnow\nnearly always",
	"maxim": `{doing} is {verdict}
		{stuff} beats {stuff}
		{things} should be {quality}
		{few} {things} are plenty
		{doing} rewards {patience|care|stubbornness|attention}
		{stuff} forgives, {stuff} does not
		every {thing} has its {season}
		a~ {good} {thing} needs {stuff}
		{doing} comes before {doing}
		the {tool} does half of it`,

	// What happened: a sentence of a page that tells.
	"story": `{when} {I} {did} {aThing}, and {outcome}
		{when}, {helper} {brought} {aThing}
		{aThing} {cost} {span} {because}
		{trouble} {when}, which {cost} {span}
		{I} tried {stuff} instead of {stuff}, and {outcome}
		{doing} {cost} {span}; {outcome}
		{helper} {often} says that {maxim}
		{I} {think} {maxim}, {because}
		{I} {did} {aThing} with {stuff} {when}
		the {tool} lives {where} {when}, {because}
		{for_} {helper}, {I} {did} {aThing} {when}
		{few} {things} are done, {few} wait {where}
		it was {verdict}, {helper} said, {because}
		by {daypart} {outcome}, and by {weekday} {outcome}
		with {good} {stuff}, {doing} takes {span}
		without a~ {tool}, {doing} {cost} {span}
		{helper} and {I_} {did} {aThing} {where}
		what {became} {verdict} was {aThing}
		{stuff} from {place} is {verdict}
		{I} {often} {think} {maxim}
		never again {doing} on a~ {mood} {weekday}
		{when} it all {became} {verdict}
		nothing {became} {good} {when}, {because}
		{I} put {aThing} {where}, and {outcome}
		the {ordinal} {thing} {became} {verdict}, the {ordinal} {became} {verdict}
		{few} {unit} of {doing} later, {outcome}
		{I} bought a~ {fine} {tool} {when}
		{helper} {liked} {aThing} so much that {outcome}
		still {doing} {when}, {because}
		there was {stuff} {where}, and {outcome}
		{trouble}, but {outcome}
		{trouble} while {doing}
		{place} had no {stuff} {when}
		{I} {think} of {doing} as {fine} work, {helper} as {poor} work
		{things}: {few} {good}, {few} {poor}
		a~ {mood} {weekday}, good for {doing}
		{doing} first, then {doing}, then {stuff}`,
	"for_": "for\ntogether with\nthanks to\nto please\nlike\nbefore visiting",

	// What is said of the whole: openings and descriptions.
	"about": `{I} {began} {doing} in {town}, {when}
		{here} {I} {keep_} {aThing} and notes on {doing}
		most of it is about {doing}, the rest about {stuff}
		{things}, {things} and {stuff}, as {helper} puts it
		it began with {aThing} from {helper}
		{town} has {few} {things} and one {who}
		{I} learnt {doing} from {helper}, {because}
		{doing} fills {span}; {doing} the rest
		if {doing} interests you, {welcome}
		{helper} helps with {doing}, {friendName} with {stuff}
		{weekday}s are for {doing}, {weekday}s for {doing}
		{I} {often} {think} {maxim}
		nothing here is {poor}, some of it {good}
		{welcome}, {because}
		{things} {where}, {stuff} {where}
		in {town} people {know_} {me} for {things}
		{years} years of {doing}, and {outcome}
		a~ {who} needs {stuff}, a~ {tool} and {span}`,
	"began":   "began\nstarted\ntook up\ngave up\nreturned to\nfell for\ndiscovered\nlearnt",
	"here":    "here\non these pages\nin this corner\nbelow\non this site\nin these notes",
	"keep_":   "keep\ncollect\nshow\ndescribe\nput\nwrite up\nfile",
	"know_":   "know\nremember\nask\ntease\nvisit\nthank",
	"years":   "two\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\ntwelve\ntwenty\nthirty",
	"welcome": "come by {when_}\nask {friendName}\nbring {aThing}\nread on\nwrite to {me}\nsay hello\nlook around\nvisit {place}\ntry {doing}\nstart with {stuff}",
	"when_":   "on {weekday}s\nany {daypart}\nin {month}\non {weekday} {daypart}\nafter {month}\nin {season}",

	// Short pieces.
	"tag":     "{doing} in {town}\n{things} and {stuff}\n{fine} {things} from {town}\non {doing}, mostly\n{quality} {things}\n{things}, {things}, {stuff}\n{stuff}, slowly\n{town}, {season} and {season}\na~ {who}'s {things}\n{few} {things} at a time\n{doing} since {since}",
	"heading": "{doing}\n{a_} {good} {thing}\n{stuff}\n{things} and {stuff}\n{trouble}\nthe {ordinal} {thing}\n{stuff} again\n{month} {things}\n{helper}'s {thing}\n{few} {things}\nwith {stuff}\n{doing} in {month}\n{things} {where}\non {doing}\n{good}, {fine}, {poor}\n{weekday}\n{a_} {poor} {thing}\nmore {stuff}\n{stuff} or {stuff}\n{tool} and {tool}\n{season} notes\nfrom {place}\nno {stuff}\n{thing} {count}\nthe {tool}\nwhy {stuff}",
	"a_":      "a~\nthe\none\nanother\nthat",
	"caption": "{aThing}, {month}\n{stuff} {where}\n{place}, {mood} {weekday}\n{doing}, {season}\nafter {doing}\n{things} from {place}\nthe {tool} at work\n{when}\n{month} {stuff}",
	"quote":   "{maxim}\n{maxim}, {because}\n{doing}, then {stuff}\nnever {poor}, {often} {good}\n{outcome}",
	"note":    "{trouble}; back on {weekday}\nno {stuff} until {month}\nnew: {aThing}\n{weekday}: {doing}\nlooking for {stuff}\nfound {where}: {aThing}\n{things} again from {month}\nthanks to {friendName} for {stuff}\nwanted: {aThing}",
	"rule":    "bring {stuff}\nno {doing} after {clock}\nput the {tool} back {where}\nask {friendName} about {stuff}\n{things} stay {where}\n{doing} only with {friendName}\nleave {stuff} {where}\nno more than {few} {things} each\nlabel {things} with name and {month}\nsweep up {stuff}",
	"clock":   "eight\nnine\nten\nhalf past {five|six|seven|eight|nine}\nnoon\ndusk\na quarter to {six|seven|eight}",
	"question": `what if {trouble}?
		how {good} is {stuff}?
		can {I_} bring {aThing}?
		why {stuff} and not {stuff}?
		is {doing} hard?
		how long does {doing} take?
		do {you|beginners|children} need a~ {tool}?
		who did the {ordinal} {thing}?
		{things} or {things}?
		where does {stuff} come from?`,
	"answer": `{maxim}
		{span}, {often}
		{friendName} knows
		from {place}
		only if {trouble}
		{I} {think} {maxim}
		yes, {because}
		no, {because}
		{often}
		{verdict}
		in {month}, {outcome}`,
	"reach": `write to {mailbox} at this domain
		{mailbox} at this domain reaches {me}
		letters: {number} {street}, {town}
		leave a note at {number} {street}
		ring the bell at {number} {street}, {town}
		ask for {friendName} at the {friend}
		{friendName} answers mail {when_}
		mail: {mailbox}, at this domain
		you will find {me} {where}, {when_}
		{number} {street}, {town}, {when_}`,
	"foot": `{owner}, {town}
		{site}, {since}
		made in {town}
		{owner} {since}
		{town}, {month} {year}
		by {owner}
		{since} to {year}, {owner}
		© {year} {owner}
		© {since}–{year} {site}
		words and pictures: {owner}
		last changed in {month}
		{number} {street}, {town}
		{tag}`,
	"mailbox": "hello\npost\nmail\ninfo\n{nick}\n{nick}\n{nick}\ncontact\noffice\nhi",
	"number":  "1\n2\n3\n4\n5\n6\n7\n8\n9\n11\n12\n14\n15\n16\n17\n19\n21\n23\n24\n27\n31\n38\n40\n52\n67",

	// Of a workshop's pieces, a club's evenings, a product's versions.
	"piece":   "{thing}\n{fine} {thing}\n{thing}, {good}\n{thing} in {stuff}\n{good} {thing}\n{thing} and {thing}\n{thing} for a~ {friend}\nrepair of a~ {thing}\n{thing}, {fine} and {good}",
	"service": "{doing}\n{doing}, per {thing}\n{thing}\n{good} {thing}\n{thing} with {stuff}\n{doing}, {few} {things}\n{fine} {thing}\nadvice on {stuff}\nhire of a~ {tool}",
	"fixture": "{doing}\n{thing} with {friendName}\n{things} at {place}\nvisit to {place}\n{doing} for beginners\n{friendName} on {stuff}\n{fine} {thing}\nannual meeting\n{doing} and {stuff}\n{season} {thing}",
	"change":  "{did} the {thing}\n{did} {aThing}\n{good} {things}\nno longer: {trouble}\n{thing} takes {stuff}\n{doing} is {verdict}\n{did} {things} and {things}\n{thing} works without a~ {tool}\nbetter {stuff}\nsmaller {thing}",
	"feature": "{good} {things}\n{doing} without {stuff}\n{doing} that stays {good}\n{stuff}, nothing else\n{thing} and {thing} together\nno {tool} needed\n{count} {things}\n{hugely} {good} {thing}\nmade for a~ {friend}\n{doing} in {few} minutes",
	"step":    "{verb} the {food} with {food}, {minutes} minutes\n{verb} {food} until {done_}\nadd {food} and {food}\n{verb}, then {verb_} again\nleave {where_} for {minutes} minutes\nstir in the {food}; {verb_} until {done_}\n{verb} everything but the {food}\ntaste, and add {food}\nwarm the {vessel}\nmeanwhile {verb_} the {food}\nput it all into a~ {vessel}\nserve with {food}",
	"verb":    "chop\nsimmer\nfold\nwhisk\nstir\nrest\nstrain\nroast\nmash\npeel\nsoak\nslice\ncrush\nsweat\nboil\ntoast",
	"verb_":   "{verb}",
	"food":    "onion\nbutter\nsalt\nflour\nmilk\ncarrot\nparsley\noil\npepper\nsugar\ncream\napple\nlemon\negg\noats\nbarley\npotato\nleek\nginger\ncinnamon\nvinegar\nmustard\nplum\npear\nhoney\nyoghurt\nmint\nbay\nwalnut\ncheese\nhazelnut\ncabbage\nfennel\nthyme\ngarlic\ntomato",
	"done_":   "{done2}\n{done2} and {done2}\n{hugely} {done2}\nyou can see the {vessel}\nit smells of {food}\nthe {food} is {done2}",
	"done2":   "soft\ngolden\nthick\nsmooth\nbrown\nclear\nshiny\nfragrant\nset\nreduced\ntender\ncrisp",
	"where_":  "{where}\nin a warm place\ncovered\nin the {vessel}\nuncovered\nin the cold\novernight, or",
	"vessel":  "pan\noven\nbowl\ntin\ndish\njar\npot\nsieve\ncrock\nboard",
	"minutes": "5\n8\n10\n12\n15\n18\n20\n25\n30\n35\n40\n45\n50\n70\n90",
	"amount":  "{minutes} g of {food}\n{few} spoons of {food}\n{food}\na handful of {food}\n{few} {cups|pinches|slices|sprigs} of {food}\n{count} g of {food}\n{minutes}0 ml of {food}\nsome {food}\na~ {good} piece of {food}\n{minutes}0 g {food}",
}

// Names. Towns, villages and surnames are put together, so that they are many.
const (
	firstNames = "Ada,Agnes,Albert,Alma,Amina,Anders,Anneke,Arthur,Astrid,Aurel,Beatrix,Bela,Benno,Berit,Bruno,Carla,Cecily,Clara," +
		"Colm,Cora,Dagmar,Daphne,Desmond,Dina,Dora,Edgar,Edith,Einar,Eliza,Elsa,Emil,Enid,Ernest,Esther,Eva,Felix,Fergus,Flora," +
		"Frieda,Gareth,Gerda,Gilbert,Gwen,Hanna,Harriet,Hector,Hilda,Hugo,Ida,Ines,Ingrid,Iris,Ivan,Jasper,Joan,Jonas,Josef,Judith," +
		"Karin,Kasper,Klara,Lars,Lena,Leopold,Lidia,Linus,Lotte,Ludo,Mabel,Magnus,Maia,Marta,Matilda,Milan,Mina,Morris,Nadia,Nell," +
		"Nils,Nora,Olga,Oskar,Otto,Owen,Paula,Petra,Philippa,Quentin,Ragna,Ralph,Rita,Rolf,Rosa,Rufus,Ruth,Selma,Sigrid,Silas,Sofia," +
		"Stella,Sven,Tessa,Theo,Tilda,Tobias,Ulla,Ursula,Vera,Victor,Viola,Walter,Wanda,Wilma,Winifred,Yusuf,Yvonne,Zelda,Zora"
	nameHeads = "Al,Ash,Bar,Beck,Bram,Bren,Brock,Cal,Carn,Clay,Cold,Corn,Crow,Dal,Dern,Drum,Dun,East,El,Esk,Fal,Far,Fen,Finn,Gar,Glen," +
		"Gold,Green,Had,Hal,Har,Hazel,Hel,High,Hol,Horn,Ing,Kel,Ken,Kil,Kirk,Lam,Lang,Lark,Lind,Long,Mal,March,Mel,Mill,Mor,Nether," +
		"New,Nor,Oak,Old,Or,Pen,Pond,Rad,Raven,Red,Ros,Rush,Sand,Sel,Sher,Stan,Stock,Sutter,Tarn,Thorn,Tor,Under,Upper,Wal,Wat,Wes," +
		"West,Whit,Wil,Win,Wood,Wren,Yar"
	townTails = "bridge,burn,bury,by,combe,cote,dale,den,field,ford,gate,ham,haven,hill,holm,hurst,ingham,ington,leigh,ley,low,mere," +
		"mouth,ness,over,port,ridge,shaw,stead,sted,stoke,stow,thorpe,thwaite,ton,wick,well,worth"
	surTails = "ley,ford,man,ton,er,wick,well,field,croft,by,land,more,worth,son,ham,don,mark,quist,berg,stad,ster,wright,house,wood"
	wayTails = "Lane,Street,Road,Row,Hill,Yard,Close,Way,Place,Walk,Green,Mews,Square,Passage,Terrace,Court"
)
